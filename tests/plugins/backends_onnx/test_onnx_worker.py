"""The type `onnx` as the server has it: a worker process of its own."""

import io
import logging
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from swarmkernel_backend_api import FREE_MEMORY, BackendError, FreeMemory, NewBackend, Status
from swarmkernel_backend_api.testing import fleet, until
from swarmkernel_backends_onnx import plugin
from swarmkernel_backends_onnx.plugin import ONNX
from swarmkernel_backends_torch import plugin as torch_plugin
from swarmkernel_models_api import LOAD_MODEL, Loaded, LoadModel
from swarmkernel_t2i_api import GENERATE, EncodedOutput, ImageJob
from swarmkernel_t2i_api.testing import GenerateConformance


class TestOnnx(GenerateConformance):
    kind = ONNX
    settings: ClassVar[dict[str, Any]] = {"provider": "CPU", "threads": 1, "max_batch": 4}
    abilities: ClassVar[set[str]] = {"generate", "load_model", "free_memory"}

    @pytest.fixture(autouse=True)
    def _model(self, models: Any) -> None:
        path = str(models.folder("sd1"))
        self.load = LoadModel("sd1", path)
        self.job = ImageJob("1", "a cat", model_path=path, width=32, height=32, steps=4, seed=1)


async def test_worker_refuses_and_goes_on(
    models: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Through its process, the backend refuses a folder, draws, frees and draws the same; the log has the provider and no
    chatter of onnxruntime.
    """
    caplog.set_level(logging.INFO)
    path = models.folder("sd1")
    job = ImageJob("1", "red", model_path=str(path), width=32, height=32, steps=3, seed=1)
    async with fleet([ONNX], max_init_attempts=1) as backends:
        slot = await backends.add("onnx", {"threads": 1})
        await until(backends, lambda: slot.status not in {Status.WAITING, Status.LOADING}, 60)

        async def last(ability: Any, request: Any) -> Any:
            async with aclosing(slot.invoke(ability, request)) as replies:
                return [reply async for reply in replies][-1]

        pid = slot.host.pid
        with pytest.raises(BackendError, match=r"no model_index\.json"):
            await last(LOAD_MODEL, LoadModel("bad", str(tmp_path)))
        assert Loaded("sd1") == await last(LOAD_MODEL, LoadModel("sd1", str(path)))
        first = await last(GENERATE, job)
        assert isinstance(first, EncodedOutput)
        assert (await slot.ask(FREE_MEMORY, FreeMemory(system_ram=True))).freed
        assert first.data == (await last(GENERATE, job)).data
        assert pid == slot.host.pid
    said = [text for text in caplog.messages if text.startswith(slot.label) and "worker process" not in text]
    assert 2 == len(said), said
    assert "computing on " in said[0]


async def test_missing_provider_shows_in_the_backend(caplog: pytest.LogCaptureFixture) -> None:
    """A backend whose provider is missing is errored, and the log says what there is."""
    async with fleet([ONNX], max_init_attempts=1) as backends:
        slot = await backends.add("onnx", {"provider": "OpenVINO"})
        await until(backends, lambda: slot.status is Status.ERRORED, 60)
    assert "OpenVINO is not available here; there is" in caplog.text


def test_one_default_backend(swarm_boot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh installation gets a backend of this type unless torch's engine works, which then proposes its own."""
    mine = (NewBackend("onnx", title="This machine"),)
    services = swarm_boot().services
    assert () == plugin.backend_defaults(services)
    assert mine == plugin.backend_defaults(swarm_boot(disabled=["backends_torch"]).services)
    for one in (plugin, torch_plugin):
        monkeypatch.setattr(one, "find_spec", lambda _: None)
    assert (mine, ()) == (plugin.backend_defaults(services), torch_plugin.backend_defaults(services))


def test_a_server_generates_with_onnx(swarm_serve: Any) -> None:
    """A server whose torch engine is kept out draws what the prompt says with the model that it ships with, and holds no
    onnxruntime itself.
    """
    server = swarm_serve("--disable", "backends_torch")
    client = server.client()
    deadline = time.monotonic() + 60
    while "running" not in {one["status"] for one in client.post("ListBackends").values()}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    asked = {"prompt": "a red circle on a blue background", "cfgscale": 4, "seed": 5, "images": 1}
    (path,) = client.post("GenerateText2Image", **asked)["images"]
    picture = Image.open(io.BytesIO(client.http.get(f"/{path}").content)).convert("RGB")
    middle, corner = picture.getpixel((64, 64)), picture.getpixel((4, 4))
    assert middle[0] > middle[2] + 40
    assert corner[2] > corner[0] + 40
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" not in maps
    client.close()
