"""What survives: kills, restarts, stops."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import orjson
import pytest

ASK = {
    "images": 1,
    "prompt": "a red circle on a blue background",
    "cfgscale": 4,
    "seed": 5,
    "donotsave": True,
}


def workers(pid):
    """Process ids of the children of *pid*."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += (task / "children").read_text().split()
    return [int(child) for child in found]


def backend_workers(pid):
    """Those of them that run a backend."""
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in workers(pid)}
    return [child for child, command in commands.items() if b"swarmkernel_backend_api" in command]


def alive(pid):
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_worker_costs_nobody_a_picture(shared, client):
    """When the worker is killed in mid-generation, the job runs again and its client gets its image."""
    client.post("GenerateText2Image", **ASK, steps=1)
    (worker,) = backend_workers(shared.process.pid)
    frames = []
    with client.socket("GenerateText2ImageWS", **ASK, steps=60, width=256, height=256, nopreviews=True) as ws:
        killed = False
        for message in ws:
            frames.append(orjson.loads(message))
            if not killed and frames[-1].get("gen_progress", {}).get("overall_percent", 0) > 0.1:
                os.kill(worker, signal.SIGKILL)
                killed = True

    assert [] == [f for f in frames if "error" in f]
    assert 1 == len([f for f in frames if "image" in f])
    assert worker not in backend_workers(shared.process.pid)


def test_a_killed_server_leaves_nothing_behind(swarm_server, ready):
    """When the server is killed, its workers end within two seconds."""
    ready(swarm_server.client())
    children = workers(swarm_server.process.pid)
    assert children

    swarm_server.kill()

    until = time.monotonic() + 5
    while any(alive(pid) for pid in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert [] == [pid for pid in children if alive(pid)]


def until_painting(client, waiting):
    """Wait until one picture of the session is in the making, and so many wait."""
    until = time.monotonic() + 30
    while (found := client.post("GetCurrentStatus")["status"])["live_gens"] != 1 or (
        found["waiting_gens"] - found["live_gens"] != waiting
    ):
        assert time.monotonic() < until, found
        time.sleep(0.02)


def test_a_running_picture_is_finished_before_the_stop(swarm_server, ready):
    """A server told to stop lets a running picture end and its client have it; it ends with 0, and its workers with it."""
    client = ready(swarm_server.client())
    client.post("GenerateText2Image", **ASK, steps=1)
    children = workers(swarm_server.process.pid)
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(client.post("GenerateText2Image", **ASK, steps=60))
    )
    thread.start()
    until_painting(client, waiting=0)
    swarm_server.process.send_signal(signal.SIGTERM)
    thread.join(60)

    assert 0 == swarm_server.process.wait(60)
    assert "images" in answers[0], answers
    assert [] == [pid for pid in children if alive(pid)]


def test_waiting_pictures_are_told_of_the_stop(swarm_serve, tmp_path, ready):
    """A server told to stop begins nothing new: waiting pictures get an error, running ones their image."""
    server = swarm_serve("--disable", "backends_torch", data_dir=tmp_path / "busy")
    client = server.client()
    client.post("EditBackend", backend_id=0, title="", settings={"max_batch": 1})
    ready(client)
    client.post("GenerateText2Image", **ASK, steps=1)
    frames = []

    def run():
        with client.socket("GenerateText2ImageWS", **{**ASK, "images": 4}, steps=80, nopreviews=True) as ws:
            frames.extend(json.loads(message) for message in ws)

    thread = threading.Thread(target=run)
    thread.start()
    until_painting(client, waiting=3)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    thread.join(60)

    assert 0 == server.process.wait(60)
    assert time.monotonic() - began < 40
    assert ["shutting_down"] == [f["error_id"] for f in frames if "error" in f]
    assert 1 == len([f for f in frames if "image" in f])


def test_freed_memory_is_taken_again(client):
    """After FreeBackendMemory the next request generates as before."""
    before = client.post("GenerateText2Image", **ASK, steps=3)

    assert {"result": True, "count": 1} == client.post("FreeBackendMemory", system_ram=True)
    assert before == client.post("GenerateText2Image", **ASK, steps=3)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_keeps_everything(swarm_serve, tmp_path, end):
    """Sessions, presets, settings and backends are there after a restart, be it orderly or by kill -9."""
    server = swarm_serve("--disable", "backends_torch", data_dir=tmp_path / "kept")
    client = server.client()
    added = client.post("AddNewBackend", type_id="onnx")
    edited = client.post(
        "EditBackend", backend_id=added["id"], title="second", settings={"max_batch": 2, "provider": "CPU"}
    )
    assert "second" == edited["title"]
    client.post("ToggleBackend", backend_id=added["id"], enabled=False)
    client.post("AddNewPreset", title="mine", description="d", param_map={"steps": "7"})
    client.post("ChangeUserSettings", settings={"FileFormat.ImageFormat": "JPG"})
    client.post("SetAPIKey", keyType="civitai_api", key="canary")
    session = client.session_id
    getattr(server, end)()

    server.start()
    again = server.client(login=False)
    again.session_id = session

    backends = again.post("ListBackends")
    assert ["0", str(added["id"])] == list(backends)
    assert ("second", 2, "CPU", False) == (
        backends[str(added["id"])]["title"],
        *(backends[str(added["id"])]["settings"][key] for key in ("max_batch", "provider")),
        backends[str(added["id"])]["enabled"],
    )
    assert ["mine"] == [p["title"] for p in again.post("GetMyUserData")["presets"]]
    settings = again.post("GetUserSettings")["settings"]
    assert "JPG" == settings["fileformat"]["value"]["imageformat"]["value"]
    assert again.post("GetAPIKeyStatus", keyType="civitai_api")["status"].startswith("last updated")


def test_presets_and_user_settings_shape_a_generation(client):
    """A preset named in a request is applied, and the user's file format is used."""
    client.post(
        "AddNewPreset", title="Quick", description="", param_map={"steps": "3", "width": "64", "height": "96"}
    )
    client.post("ChangeUserSettings", settings={"fileformat.imageformat": "JPG"})
    frames = client.stream("GenerateText2ImageWS", images=1, prompt="a red star", presets=["quick"])
    client.post("ChangeUserSettings", settings={"fileformat.imageformat": "PNG"})
    client.post("DeletePreset", preset="Quick")

    image = next(f for f in frames if "image" in f)
    assert image["image"].endswith(".jpg")
    parameters = json.loads(image["metadata"])["sui_image_params"]
    assert (3, 64, 96) == (parameters["steps"], parameters["width"], parameters["height"])


def test_acknowledged_writes_survive_kill_9(swarm_serve, tmp_path):
    """The server is killed again and again while it writes; what it acknowledged is there afterwards."""
    engines = ("--disable", "backends_torch", "--disable", "backends_onnx")
    server = swarm_serve(*engines, data_dir=tmp_path / "kills")
    acknowledged = []
    for round_ in range(8):
        client = server.client()
        stop = threading.Event()

        def write(client=client, round_=round_, stop=stop):
            n = 0
            while not stop.is_set():
                title = f"r{round_}n{n}"
                try:
                    if client.post("AddNewPreset", title=title, description="", param_map={}).get("success"):
                        acknowledged.append(title)
                except Exception:
                    return
                n += 1

        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.15 + 0.05 * round_)
        stop.set() if round_ % 3 == 2 else None
        server.process.kill()
        thread.join(30)
        server.kill()
        server.start()
    titles = {p["title"] for p in server.client().post("GetMyUserData")["presets"]}

    assert len(acknowledged) > 8
    assert set(acknowledged) <= titles
