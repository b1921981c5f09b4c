"""Pictures that were made to hurt whoever decodes them: a process of its own does, and the server does not notice."""

import base64
import contextlib
import io
import os
import resource
import signal
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from tests.security.asides import asides
from tests.security.people import within

PREFIX = "data:image/jpeg;base64,"
DECODER = "swarmkernel_basic_api"


def jpeg(width: int = 64, height: int = 64, **options) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "JPEG", **options)
    return out.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A small file that says it is a large picture."""
    raw = bytearray(jpeg())
    start = raw.index(b"\xff\xc0") + 5
    raw[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(raw)


def scans(count: int) -> bytes:
    """A picture of 31 megapixels whose scans come again and again, each a whole decoding for a few bytes."""
    raw = jpeg(5600, 5600, progressive=True, quality=10)
    start = raw.index(b"\xff\xda")
    return raw[:-2] + raw[start:-2] * count + raw[-2:]


BAD = {
    "beyond the limit": claiming(8000, 4001),
    "60000 squared": claiming(60000, 60000),
    "another format": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "cut": jpeg(300, 300)[:-300],
    "a bomb of EXIF": jpeg()[:2] + (b"\xff\xe1\xff\xffExif\0\0" + b"II*\0" + bytes(65523)) * 5,
    "noise": b"\xff\xd8\xff" + bytes(range(256)) * 100,
    "no picture": b"",
}


@pytest.fixture(name="server", scope="module")
def _server(start):
    return start()


def save(client, title: str, picture: bytes, **more) -> dict:
    """Save a preset with a picture."""
    uri = PREFIX + base64.b64encode(picture).decode()
    return client.post("AddNewPreset", title=title, description="", param_map={}, preview_image=uri, **more)


def mib(server) -> float:
    """What the server resides in."""
    return (
        int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    )


def test_one_process_decodes_within_bounds(server):
    """No process is there before the first picture; the one that then is has little memory and time."""
    client = server.client()
    assert [] == asides(server, DECODER)
    assert {"success": True} == save(client, "good", jpeg())
    (pid,) = asides(server, DECODER)
    assert 1024**3 == resource.prlimit(pid, resource.RLIMIT_AS)[0]
    assert 10 <= resource.prlimit(pid, resource.RLIMIT_CPU)[0] <= 15
    assert b"PIL" not in Path(f"/proc/{server.process.pid}/maps").read_bytes()


@pytest.mark.parametrize("picture", BAD.values(), ids=BAD)
def test_bombs(server, picture):
    """Each is refused with a reason and nothing is saved; the server has not grown, and the next picture is read."""
    client = server.client()
    save(client, "warm", jpeg(), is_edit=True, editing="good")
    before = mib(server)
    for number in range(3):
        assert "preset_fail" in save(client, f"bad {number}", picture)
    assert mib(server) - before < 16
    assert {"success": True} == save(client, "good", jpeg(), is_edit=True, editing="warm")
    assert ["good"] == [preset["title"] for preset in client.post("GetMyUserData")["presets"]]


def test_a_large_picture_costs_the_server_nothing(server):
    """A picture of 31 megapixels with many scans is decoded elsewhere; light calls do not wait for it."""
    client, other = server.client(), server.client()
    save(client, "warm up", jpeg())
    before, times, over = mib(server), [], threading.Event()
    picture = scans(5)

    def call() -> None:
        while not over.is_set():
            began = time.monotonic()
            assert "status" in other.post("GetCurrentStatus")
            times.append(time.monotonic() - began)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        save(client, "large", picture)
    finally:
        over.set()
        caller.join()
    assert sorted(times)[len(times) * 95 // 100] < 0.5
    assert mib(server) - before < 32


def test_killed_while_it_decodes(server):
    """A decoder that is killed is replaced, and the picture is read all the same."""
    client = server.client()
    save(client, "first", jpeg())
    (pid,) = asides(server, DECODER)
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    assert {"success": True} == save(client, "second", jpeg())
    within(5, lambda: [pid] != asides(server, DECODER) != [])


def test_too_many_at_a_time(server):
    """While the decoder is busy so many wait and more are told to come again; others' calls go on."""
    client = server.client()
    save(client, "before", jpeg())
    (pid,) = asides(server, DECODER)
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(20) as pool:
            jobs = [pool.submit(save, server.client(), f"many {n}", jpeg()) for n in range(20)]
            within(20, lambda: sum(job.done() for job in jobs) >= 12)
            assert "status" in client.post("GetCurrentStatus")
            os.kill(pid, signal.SIGCONT)
            answers = [job.result() for job in jobs]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert 8 == sum(answer == {"success": True} for answer in answers)
    assert 12 == sum("Too many" in answer.get("preset_fail", "") for answer in answers)
