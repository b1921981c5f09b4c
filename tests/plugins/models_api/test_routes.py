"""The model routes of a real server, with a backend in a process of its own that loads models."""

import base64
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import orjson
import pytest
from PIL import Image

from swarmkernel.testing import FakeDistributions, LiveServer

from .conftest import SDXL, write

LOADER = """
import asyncio
import os
from pathlib import Path

from swarmkernel import hookimpl
from swarmkernel_backend_api import BackendError, BackendType, NoSettings
from swarmkernel_models_api import Loaded, LoadProgress, ModelFolder


class Loader:
    def __init__(self, settings):
        pass

    async def start(self):
        pass

    async def stop(self):
        pass

    async def load_model(self, request):
        with open(os.environ["LOADS"], "a") as log:
            log.write(f"{request.name} {request.path} {request.class_id}\\n")
        yield LoadProgress("reading", 0.5)
        await asyncio.sleep(0.5)
        if "odd" in request.name:
            raise BackendError("its weights are odd")
        if "deadly" in request.name:
            os.kill(os.getpid(), 9)
        yield Loaded(request.name)


@hookimpl
def backend_types():
    common = {"make": Loader, "settings": NoSettings}
    return [
        BackendType("loader", "Loader", **common),
        BackendType("xl_loader", "XL loader", compat_classes={"stable-diffusion-xl-v1"}, **common),
        BackendType("onnx_loader", "ONNX loader", formats={"onnx"}, **common),
    ]


@hookimpl
def models_folders():
    return [ModelFolder(Path(os.environ["ADDED"]))] if "ADDED" in os.environ else []
"""

MODEL_KEYS = {
    "name", "title", "author", "description", "preview_image", "loaded", "architecture", "class", "compat_class",
    "resolution", "standard_width", "standard_height", "license", "date", "usage_hint", "trigger_phrase",
    "merged_from", "prediction_type", "tags", "is_supported_model_format", "is_negative_embedding",
    "lora_default_weight", "lora_default_confinement", "local", "time_created", "time_modified", "hash",
    "hash_sha256", "special_format",
}  # fmt: skip


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, kind)
    return file.getvalue()


OTHERS = ["t2i_api", "backends_torch", "backends_onnx", "backends_remote", "starter_model"]
OPTIONS = [option for name in OTHERS for option in ("--disable", name)]


def filled(folder):
    """A data directory in that folder with a few models, and a canary beside it."""
    main = folder / "data/Models/Stable-Diffusion"
    write(main / "one.safetensors")
    write(main / "deep/xl.safetensors", SDXL)
    write(main / "odd.safetensors")
    write(main / "deadly.safetensors")
    (main / "old.ckpt").write_bytes(b"\x80\x04" + bytes(50))
    (main / "one.png").write_bytes(picture("PNG"))
    (main / "odd.jpg").write_bytes(b"<script>alert(1)</script>")
    thumbnail = "data:image/png;base64," + base64.b64encode(picture("JPEG")).decode()
    write(main / "deep/thumb.safetensors", **{"modelspec.thumbnail": thumbnail})
    write(
        folder / "data/Models/Lora/l.safetensors",
        {"lora_te1_text_model_encoder_layers_0_x.lora_up.weight": (1,)},
    )
    (folder / "canary").write_text("canary")
    return folder / "data"


@pytest.fixture
def serve(swarm_dists, swarm_serve, tmp_path):
    """Start a server of the test's own with the loader plugin, without the accelerator plugins."""
    swarm_dists.add("loader", LOADER, requires=["swarmkernel-models-api"])
    data = filled(tmp_path)

    def start(**env):
        return swarm_serve(*OPTIONS, data_dir=data, LOADS=str(tmp_path / "loads"), **env)

    return start


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Such a server for all tests that leave it as it was, and the file that tells what was loaded."""
    folder = tmp_path_factory.mktemp("shared")
    FakeDistributions(folder / "dists").add("loader", LOADER, requires=["swarmkernel-models-api"])
    paths = [str(folder / "dists"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {"PYTHONPATH": os.pathsep.join(paths), "LOADS": str(folder / "loads")}
    with LiveServer(filled(folder), OPTIONS, env) as server:
        yield server, folder / "loads"


@pytest.fixture
def client(shared):
    """A session on it, with two new backends that load anything."""
    server, _ = shared
    client = server.client()
    for _ in range(2):
        assert "error" not in client.post("AddNewBackend", type_id="loader")
    running(client, 2)
    yield client
    for number in backends(client):
        client.post("DeleteBackend", backend_id=number)


@pytest.fixture
def loads(shared):
    """The names of the models that were loaded since the test began, in order."""
    _, log = shared
    log.write_text("")
    return lambda: [line.split()[0] for line in log.read_text().splitlines()]


def backends(client):
    """The ids of the backends, in order."""
    return sorted(client.post("ListBackends"), key=int)


def running(client, count):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = client.post("ListBackends").values()
        if count == sum(backend["status"] == "running" for backend in found):
            return
        time.sleep(0.1)
    raise AssertionError(found)


def names(answer):
    return [model["name"] for model in answer["files"]]


def test_list_models(client):
    """Models are listed by folder with every field of the wire."""
    everything = client.post("ListModels", path="", depth=999, subtype="Stable-Diffusion", allowRemote=True)

    assert ["deep"] == everything["folders"]
    assert [
        "deadly.safetensors", "deep/thumb.safetensors", "deep/xl.safetensors", "odd.safetensors", "old.ckpt",
        "one.safetensors",
    ] == names(everything)  # fmt: skip
    assert all(set(model) == MODEL_KEYS for model in everything["files"])
    one = everything["files"][-1]
    assert ("one", "stable-diffusion-v1", "Stable Diffusion v1", 512, "0x0", False, True) == (
        one["title"],
        one["architecture"],
        one["class"],
        one["standard_width"],
        one["resolution"],
        one["loaded"],
        one["is_supported_model_format"],
    )
    old = everything["files"][-2]
    assert (False, "imgs/legacy_ckpt.jpg") == (old["is_supported_model_format"], old["preview_image"])
    assert "pickle" in old["description"]
    assert ["deep/xl.safetensors", "deep/thumb.safetensors"] == names(
        client.post("ListModels", path="deep", depth="2", sortBy="name", sortReverse="true")
    )
    assert ["l.safetensors"] == names(client.post("ListModels", path="", depth=1, subtype="LoRA"))
    assert {"folders": [], "files": []} == client.post("ListModels", path="", depth=1, subtype="Wildcards")


def test_bad_arguments(client):
    """A subtype, sort mode or name that does not exist is an error with a text."""
    assert "Nonsense" in client.post("ListModels", path="", depth=1, subtype="Nonsense")["error"]
    assert "Nonsense" in client.post("ListModels", path="", depth=1, sortBy="Nonsense")["error"]
    assert "missing_parameter" == client.post("ListModels", path="")["error_id"]
    assert "nope" in client.post("DescribeModel", modelName="nope")["error"]
    assert "error" in client.post("DescribeModel", modelName="  ")
    assert "error" in client.post("SelectModel", model="")
    assert "error" in client.post("SelectModel", model="../../../etc/passwd")


def test_describe(client):
    """A model is described by any spelling of its name, and `(None)` stands for none."""
    for name in ("deep/xl.safetensors", "deep/xl", "DEEP\\XL", "xl"):
        assert "deep/xl.safetensors" == client.post("DescribeModel", modelName=name)["model"]["name"]
    assert "(None)" == client.post("DescribeModel", modelName="(None)")["model"]["name"]
    assert MODEL_KEYS == set(client.post("DescribeModel", modelName="(none)")["model"])
    assert "error" in client.post("DescribeModel", modelName="(None)", subtype="LoRA")
    lora = client.post("DescribeModel", modelName="l", subtype="LoRA")["model"]
    assert ("stable-diffusion-xl-v1-base/lora", "stable-diffusion-xl-v1") == (
        lora["architecture"],
        lora["compat_class"],
    )


def test_previews(client):
    """Pictures are served by the model's name, with the type of their content and nothing else."""
    files = {m["name"]: m for m in client.post("ListModels", path="", depth=9)["files"]}
    for name, media_type in (("one.safetensors", "image/png"), ("deep/thumb.safetensors", "image/jpeg")):
        url = files[name]["preview_image"]
        assert url.startswith(f"/ViewSpecial/Stable-Diffusion/{name}?editid=")
        answer = client.http.get(url)
        assert (200, media_type, "nosniff") == (
            answer.status_code,
            answer.headers["content-type"],
            answer.headers["x-content-type-options"],
        )
        assert (4, 4) == Image.open(io.BytesIO(answer.content)).size
    assert 200 == client.http.get("/ViewSpecial/Stable-Diffusion/one").status_code
    fake = client.http.get(files["odd.safetensors"]["preview_image"])
    assert (404, "file_not_found") == (fake.status_code, fake.json()["error_id"])
    inline = client.post("ListModels", path="", depth=9, dataImages=True)["files"]
    assert 2 == sum(m["preview_image"].startswith("data:image/") for m in inline)


WAYS_OUT = [
    "../../canary", "..%2f..%2fcanary", "%2e%2e/%2e%2e/canary", "..\\..\\canary", "..%5c..%5ccanary", "..%252f..%252fcanary",
    "/etc/passwd", "%2fetc%2fpasswd", "one.png", "one.safetensors%00.png", "one.safetensors/../one.png", "．．/canary",
    "‥/canary", "..;/canary", "C:\\canary", "//host/share", "one.safetensors::$DATA", "one.safetensors.", "a" * 4000,
]  # fmt: skip


def test_no_way_out(client):
    """Whatever a picture's address holds, only pictures of known models are served."""
    for way, address in [(plain, text) for plain in WAYS_OUT for text in (plain, quote(plain))]:
        answer = client.http.get(f"/ViewSpecial/Stable-Diffusion/{address}")
        assert answer.status_code in {400, 404, 431}
        assert b"canary" not in answer.content.replace(way.encode(), b"")
        assert b"root:" not in answer.content


def test_select_model(client, loads):
    """A model is loaded onto every backend once, shows as loaded, and is not loaded again."""
    assert {"models": []} == client.post("ListLoadedModels")
    assert {"success": True} == client.post("SelectModel", model="one")
    assert {"success": True} == client.post("SelectModel", model="ONE.safetensors")

    assert ["one.safetensors"] * 2 == loads()
    loaded = client.post("ListLoadedModels")["models"]
    assert [("one.safetensors", True)] == [(model["name"], model["loaded"]) for model in loaded]
    assert {"one.safetensors"} == {
        backend["current_model"] for backend in client.post("ListBackends", full_data=True).values()
    }
    assert client.post("DescribeModel", modelName="one")["model"]["loaded"]


def test_select_on_one_backend(client):
    """With a backend's id, as text or number, the model is loaded there alone."""
    first, second = backends(client)
    assert {"success": True} == client.post("SelectModel", model="deep/xl", backendId=int(second))
    assert {"success": True} == client.post("SelectModel", model="one", backendId=first)
    found = client.post("ListBackends", full_data=True)
    assert ["one.safetensors", "deep/xl.safetensors"] == [found[i]["current_model"] for i in (first, second)]
    assert "error" in client.post("SelectModel", model="one", backendId="777")
    assert "error" in client.post("SelectModel", model="one", backendId="x")


def test_many_wait_for_one_load(client, loads):
    """Fifty requests for one model share one load per backend."""
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: client.post("SelectModel", model="one"), range(50)))

    assert [{"success": True}] * 50 == answers
    assert ["one.safetensors"] * 2 == loads()


def test_a_failed_load_is_not_repeated_at_once(client, loads):
    """Who asks for a model that has just failed to load gets the backend's text again, without another load."""
    first, _ = backends(client)
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda _: client.post("SelectModel", model="odd", backendId=first), range(20))
        )

    assert all("its weights are odd" in answer["error"] for answer in answers)
    assert ["odd.safetensors"] == loads()
    assert "pickle" in client.post("SelectModel", model="old.ckpt", backendId=first)["error"]
    assert {"success": True} == client.post("SelectModel", model="one", backendId=first)
    assert ["odd.safetensors", "one.safetensors"] == loads()


def test_a_backend_that_dies_while_loading(client):
    """A backend that is killed by a model costs that load; it comes back and loads another."""
    first, _ = backends(client)
    assert "error" in client.post("SelectModel", model="deadly", backendId=first)
    running(client, 2)
    assert {"success": True} == client.post("SelectModel", model="one", backendId=first)


def test_loads_are_counted(client):
    """While a model is loaded the session's status says on how many backends; then it is zero again."""
    done = threading.Event()

    def load():
        client.post("SelectModel", model="one")
        done.set()

    thread = threading.Thread(target=load)
    thread.start()
    seen = set()
    while not done.is_set():
        seen.add(client.post("GetCurrentStatus")["status"]["loading_models"])
        time.sleep(0.02)
    thread.join()
    assert 2 in seen
    assert 0 == client.post("GetCurrentStatus")["status"]["loading_models"]


def test_select_over_a_socket(client):
    """The socket says the status, the result and the status, and closes."""
    first, result, last = client.stream("SelectModelWS", model="one")
    assert {"success": True} == result
    assert {"status", "backend_status", "supported_features"} == set(first) == set(last)
    assert {"waiting_gens": 0, "loading_models": 0, "waiting_backends": 0, "live_gens": 0} == last["status"]
    _, failed, _ = client.stream("SelectModelWS", model="odd")
    assert "its weights are odd" in failed["error"]
    with client.socket("SelectModelWS", model="nope") as ws:
        assert "error" in orjson.loads(ws.recv())


def test_no_backend(serve):
    """Without a backend that fits, a load is an error that says so."""
    client = serve().client()
    assert "No backend" in client.post("SelectModel", model="one")["error"]
    client.post("AddNewBackend", type_id="xl_loader")
    running(client, 1)
    assert "stable-diffusion-v1" in client.post("SelectModel", model="one")["error"]
    assert {"success": True} == client.post("SelectModel", model="xl")
    client.post("AddNewBackend", type_id="onnx_loader")
    running(client, 2)
    assert "as ONNX" in client.post("SelectModel", model="one", backendId=1)["error"]
    client.close()


def test_folders_of_settings_and_plugins(serve, tmp_path):
    """Models lie in every configured root and in the folders that plugins bring along; none is written into."""
    write(tmp_path / "roots/a/Stable-Diffusion/a.safetensors")
    write(tmp_path / "roots/b/checkpoints/b.safetensors")
    write(tmp_path / "added/c.safetensors")
    config = tmp_path / "data/swarmkernel.toml"
    config.write_text(
        f'[models_api]\nroots = ["{tmp_path}/roots/a", "{tmp_path}/roots/b"]\n'
        '[models_api.folders]\nStable-Diffusion = ["Stable-Diffusion", "checkpoints"]\n'
    )
    client = serve(ADDED=str(tmp_path / "added")).client()
    assert ["a.safetensors", "b.safetensors", "c.safetensors"] == names(
        client.post("ListModels", path="", depth=9)
    )
    assert ["a", "b"] == sorted(path.name for path in (tmp_path / "roots").iterdir())
    assert ["Stable-Diffusion"] == [path.name for path in (tmp_path / "roots/a").iterdir()]
    client.close()


def test_restart_keeps_what_is_known(serve):
    """A server that starts again lists the same models, from what it remembered."""
    server = serve()
    client = server.client()
    before = client.post("ListModels", path="", depth=9)
    client.close()
    assert 0 == server.stop()
    client = server.start().client()
    assert before == client.post("ListModels", path="", depth=9)
    client.close()
