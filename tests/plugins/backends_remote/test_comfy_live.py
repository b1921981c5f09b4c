"""Our server over a ComfyUI server, as clients see it."""

import base64
import io
import threading

import pytest
from fake_comfy import painting
from PIL import Image
from two_servers import NOT_NEEDED, QUICK, metadata, wait_for

ONE = {"images": 1, "prompt": "a cat", "width": 64, "height": 64, "steps": 4, "seed": 5}


@pytest.fixture(name="comfy", scope="module")
def _comfy():
    with painting() as comfy:
        yield comfy


@pytest.fixture(name="client")
def _client(swarm_serve, comfy, tmp_path):
    server = swarm_serve(*NOT_NEEDED, "--disable", "canvas", data_dir=tmp_path, **QUICK)
    client = server.client()
    number = client.post("AddNewBackend", type_id="comfyui_api")["id"]
    settings = {"Address": comfy.address, "OverQueue": 1}
    client.post("EditBackend", backend_id=number, title="comfy", settings=settings)
    wait_for(lambda: running(client))
    yield client
    assert [] == [line for line in server.log if "Traceback" in line or "CRITICAL" in line]


def running(client) -> bool:
    """Whether the backend runs."""
    return any(entry["status"] == "running" for entry in client.post("ListBackends").values())


def test_our_server_over_comfy(client, comfy):
    """Models are listed, a picture comes with previews and our metadata, one of two jobs is interrupted, and a lost server comes back."""
    listed = client.post("ListModels", path="", depth=5, allowRemote=True)["files"]
    assert {"alpha.safetensors": False, "folder/beta.safetensors": False} == {
        entry["name"]: entry["local"] for entry in listed
    }
    frames = client.stream("GenerateText2ImageWS", **ONE, model="folder/beta", sampler="of_this_server")
    (image,) = [frame for frame in frames if "image" in frame]
    picture = Image.open(io.BytesIO(client.http.get("/" + image["image"]).content))
    assert ((64, 64), (9, 20, 30)) == (picture.size, picture.convert("RGB").getpixel((0, 0)))
    assert ("folder/beta", 5) == tuple(metadata(image)[key] for key in ("model", "seed"))
    assert any("preview" in frame.get("gen_progress", {}) for frame in frames), frames
    assert ["of_this_server"] == [graph["sampler"]["inputs"]["sampler_name"] for graph in comfy.graphs()]
    frames = client.stream("GenerateText2ImageWS", **ONE, model="alpha", forwardrawbackenddata=True)
    raw = [frame["raw_backend_data"] for frame in frames if "raw_backend_data" in frame]
    assert ({"comfy_websocket"}, True) == (
        {each["type"] for each in raw},
        bool(base64.b64decode(raw[0]["data"])),
    )
    check_interrupt(client, comfy)
    comfy.stop()
    wait_for(lambda: not running(client))
    comfy.start()
    wait_for(lambda: running(client))
    assert "images" in client.post("GenerateText2Image", **ONE, model="alpha")


def check_interrupt(client, comfy):
    """Interrupting one session's job leaves the other's to be made."""
    comfy.ran.clear()
    other = client.post("GetNewSession")["session_id"]
    made = {}

    def make(name, **more):
        made[name] = client.post("GenerateText2Image", **{**ONE, "prompt": name, "model": "alpha", **more})

    threads = [threading.Thread(target=make, args=("hang",))]
    threads[0].start()
    wait_for(lambda: comfy.ran == ["hang"])
    threads.append(threading.Thread(target=make, args=("behind",), kwargs={"session_id": other}))
    threads[1].start()
    wait_for(lambda: len(comfy.graphs()) == 4)
    client.post("InterruptAll", other_sessions=False)
    for thread in threads:
        thread.join(20)
    assert ["hang", "behind"] == comfy.ran
    assert (False, True) == ("images" in made["hang"], "images" in made["behind"]), made
