"""A folder full of files that were made to hurt: the server lists them, says what is wrong, and goes on."""

import os
import pickle
import signal
import struct
import threading
import time
from pathlib import Path

import pytest

from tests.security.asides import asides
from tests.security.people import within

HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WHOLE = struct.pack("<Q", len(HEADER)) + HEADER + b"\0\0\0\0"
BAD = (
    struct.pack("<Q", 2**63) + b"{}",
    struct.pack("<Q", 2**64 - 1) + b"{" * 100,
    b"",
    struct.pack("<Q", 40_000) + b'{"a":' + b"[" * 39_995,
    struct.pack("<Q", 64 * 2**20) + b"{" + b"\0" * 10_000,
    pickle.dumps({"a": 1}),
    b"PK\x03\x04" + b"\0" * 300,
    struct.pack("<Q", 4) + b'{"a"',
    WHOLE + b"more",
)
COUNT, MORE = 1000, 300


def fill(folder: Path, prefix: str, count: int) -> None:
    """Files that are no models: each way to be wrong, and each place to be cut."""
    for number in range(count):
        kind, turn = number % (len(BAD) + 1), number // (len(BAD) + 1)
        content = BAD[kind] if kind < len(BAD) else WHOLE[: turn % len(WHOLE)]
        (folder / f"{prefix}{number:04d}.safetensors").write_bytes(content)


@pytest.fixture(name="server", scope="module")
def _server(start, tmp_path_factory):
    """A server that finds such a folder when it starts."""
    data = tmp_path_factory.mktemp("data")
    folder = data / "Models" / "Stable-Diffusion"
    folder.mkdir(parents=True)
    fill(folder, "a", COUNT)
    (folder / "whole.safetensors").write_bytes(WHOLE)
    return start(data_dir=data)


def listed(client) -> dict[str, dict]:
    return {file["name"]: file for file in client.post("ListModels", path="", depth=1)["files"]}


def test_they_are_listed(server):
    """All are listed, as files that cannot be used; the one that can be is."""
    client = server.client()
    within(60, lambda: len(listed(client)) == COUNT + 1)
    usable = {name for name, file in listed(client).items() if file["is_supported_model_format"]}
    assert {"whole.safetensors"} == usable


def test_others_are_served_meanwhile(server):
    """While more are looked at, and their reader is killed in the middle, light calls do not wait."""
    client, other = server.client(), server.client()
    within(60, lambda: len(listed(client)) == COUNT + 1)
    fill(server.data_dir / "Models" / "Stable-Diffusion", "b", MORE)
    times, over = [], threading.Event()

    def call() -> None:
        while not over.is_set():
            began = time.monotonic()
            assert "status" in other.post("GetCurrentStatus")
            times.append(time.monotonic() - began)

    caller = threading.Thread(target=call)
    caller.start()
    killer = threading.Timer(
        0.3, lambda: [os.kill(pid, signal.SIGKILL) for pid in asides(server, "swarmkernel_models_api")]
    )
    killer.start()
    try:
        client.post("TriggerRefresh")
        within(60, lambda: len(listed(client)) == COUNT + MORE + 1)
    finally:
        over.set()
        caller.join()
        killer.join()
    assert sorted(times)[len(times) * 99 // 100] < 0.5
    assert {"whole.safetensors"} == {n for n, f in listed(client).items() if f["is_supported_model_format"]}
    assert [] == [line for line in server.log if "Traceback" in line or "unexpected" in line]


def test_one_process_reads(server):
    """One process has read them all, and none stays when the server has gone, even if that was killed."""
    server.client()
    (pid,) = asides(server, "swarmkernel_models_api")
    server.process.kill()
    within(10, lambda: not Path(f"/proc/{pid}").exists() or b"" == Path(f"/proc/{pid}/cmdline").read_bytes())
