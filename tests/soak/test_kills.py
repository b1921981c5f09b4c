"""Whatever is killed, nobody waits for ever, and what was acknowledged is there."""

import collections
import os
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

UNLIMITED = {
    "SWARMKERNEL_BACKEND_API__RESTART_ATTEMPTS": "1000000",
    "SWARMKERNEL_BACKEND_API__RESTART_WINDOW_MINUTES": "0.0001",
    "SWARMKERNEL_BACKEND_API__RESTART_PAUSE_SECONDS": "0.05",
    "SWARMKERNEL_BACKEND_API__MAX_INIT_ATTEMPTS": "1000000",
    "SWARMKERNEL_BACKEND_API__INIT_PAUSE_SECONDS": "0.05",
    "SWARMKERNEL_T2I_API__LOAD_RETRY": "0.1",
    "SWARMKERNEL_T2I_API__SOCKET_GRACE": "0.1",
}


def settle_requests(client, chance, stop, outcomes):
    """Generate until told to stop, and note what came of each request."""
    while not stop.is_set():
        wanted = chance.choice([1, 2])
        ask = {"images": wanted, "steps": 6, "donotsave": True, "prompt": "a red circle", "nopreviews": True}
        if chance.random() < 0.5:
            answer = client.post("GenerateText2Image", **ask)
            images, errors = len(answer.get("images", [])), ["error"] if "error" in answer else []
            text = answer.get("error", "")
        else:
            frames = client.stream("GenerateText2ImageWS", **ask)
            images = sum("image" in frame for frame in frames)
            texts = [frame["error"] for frame in frames if "error" in frame]
            errors, text = texts, " ".join(texts)
            assert 0 == sum(frames[-1]["status"].values()), frames[-1]
        assert images == wanted or errors, (wanted, images, errors)
        assert images <= wanted
        assert "internal" not in text.lower(), text
        outcomes[text or "made"] += 1


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_workers_killed_at_random(swarm_serve, ready, process_of, wait_until, no_complaint, kills):
    """While its worker is killed again and again, each request ends with its pictures or an error that says why."""
    server = swarm_serve(**UNLIMITED)
    client, process, chance = ready(server.client()), process_of(server), random.Random(3)
    client.post("GenerateText2Image", images=1, steps=1, donotsave=True, prompt="warm")
    stop, outcomes, failures = threading.Event(), collections.Counter(), []

    def run(number):
        try:
            settle_requests(server.client(), random.Random(number), stop, outcomes)
        except BaseException as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()

    def wait_for_more():
        """Wait until pictures are being made."""
        before = outcomes["made"]
        wait_until(lambda: failures or outcomes["made"] > before, 180, lambda: client.post("ListBackends"))

    for number in range(kills):
        if number % 2 == 0:  # in mid-generation; the others whenever it may be
            wait_for_more()
        time.sleep(chance.uniform(0, 1))
        for worker in process.children:
            os.kill(worker, signal.SIGKILL)
    wait_for_more()
    stop.set()
    for thread in threads:
        thread.join(180)

    print(dict(outcomes))
    assert [] == [thread for thread in threads if thread.is_alive()]
    assert [] == failures
    assert outcomes["made"] > kills // 2
    wait_until(lambda: 0 == sum(client.post("GetCurrentStatus")["status"].values()))
    ready(client)
    assert "images" in client.post("GenerateText2Image", images=1, steps=1, donotsave=True, prompt="after")
    assert 1 == len([child for child in process.children if is_worker(child)])
    no_complaint(server)


def is_worker(pid: int) -> bool:
    """Whether a process is a backend's; another may be reading model files."""
    return b"swarmkernel_backend_api" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("cycles", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_servers_killed_at_random(paint, process, process_of, wait_until, cycles):
    """The server is killed again and again while clients write; all that it acknowledged is there, and no worker stays."""
    server, chance = paint(), random.Random(11)
    kept, numbers = collections.defaultdict(set), iter(range(10**9))
    for _ in range(cycles):
        stop = threading.Event()
        writers = [
            threading.Thread(target=write, args=(server.client(login=False), kind, numbers, kept, stop))
            for kind in ("presets", "backends", "sessions")
        ]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.1, 1.0))
        workers = [process(pid) for pid in process_of(server).children]
        stop.set() if chance.random() < 0.2 else None
        server.process.kill()
        for writer in writers:
            writer.join(60)
        server.kill()
        wait_until(lambda: not any(worker.alive for worker in workers), 10)  # noqa: B023  # called in this turn
        began = time.monotonic()
        server.start()
        assert time.monotonic() - began < 30
        _compare(server, kept)
        client = server.client()
        for number in client.post("ListBackends"):
            if number != "0":
                client.post("DeleteBackend", backend_id=int(number))
        kept["deleted"] |= kept["backends"]
        kept["backends"].clear()

    print({kind: len(found) for kind, found in kept.items()})
    assert kept["deleted"]
    assert len(kept["presets"]) > cycles
    assert len(kept["sessions"]) > cycles
    assert 0 == server.stop()
    (database,) = server.data_dir.glob("*.db")
    assert ("ok",) == sqlite3.connect(database).execute("PRAGMA integrity_check").fetchone()


def write(client, kind, numbers, kept, stop):
    """Write until the server is gone, and keep what it acknowledged."""
    try:
        client.login()
        while not stop.is_set():
            number = next(numbers)
            if kind == "presets":
                title = f"p{number}"
                if client.post("AddNewPreset", title=title, description="", param_map={}).get("success"):
                    kept[kind].add(title)
            elif kind == "backends":
                added = client.post("AddNewBackend", type_id="spare")
                kept[kind].add(str(added["id"]))
                time.sleep(0.05)
            else:
                kept[kind].add(client.raw("GetNewSession").json()["session_id"])
    except Exception:
        return


def _compare(server, kept):
    client = server.client()
    presets = {preset["title"] for preset in client.post("GetMyUserData")["presets"]}
    assert set() == kept["presets"] - presets
    assert set() == kept["backends"] - set(client.post("ListBackends"))
    again = server.client(login=False)
    lost = []
    for session in list(kept["sessions"])[-200:]:
        again.session_id = session
        lost += [session] if "error" in again.post("GetCurrentStatus") else []
    assert [] == lost
