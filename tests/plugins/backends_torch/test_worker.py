"""The type `torch` as the server has it: a worker process of its own."""

import asyncio
import io
import logging
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from swarmkernel_backend_api import FREE_MEMORY, BackendError, Backends, BackendSlot, FreeMemory, Status
from swarmkernel_backend_api.testing import fleet, until
from swarmkernel_backends_torch.plugin import TORCH
from swarmkernel_models_api import LOAD_MODEL, Loaded, LoadModel
from swarmkernel_t2i_api import GENERATE, EncodedOutput, EncodedPreview, ImageJob, Progress
from swarmkernel_t2i_api.testing import GenerateConformance

STARTER = Path("plugins/starter_model/src/swarmkernel_starter_model/models/starter")


class TestTorch(GenerateConformance):
    kind = TORCH
    settings: ClassVar[dict[str, Any]] = {"device": "cpu", "max_batch": 4}
    abilities: ClassVar[set[str]] = {"generate", "load_model", "free_memory"}

    @pytest.fixture(autouse=True)
    def _model(self, models: Any) -> None:
        path = str(models.folder("sd1"))
        self.load = LoadModel("sd1", path)
        self.job = ImageJob("1", "a cat", model_path=path, width=32, height=32, steps=4, seed=1)


def test_plugin_imports_no_torch() -> None:
    """The server has the type without torch, diffusers, transformers or PIL's weight in its process."""
    code = (
        "import sys, swarmkernel_backends_torch.plugin as p; list(p.backend_types()); list(p.backend_defaults(None));"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'safetensors', 'accelerate') if m in sys.modules])"
    )
    assert (
        "[]\n"
        == subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    )


@asynccontextmanager
async def worker(**settings: Any) -> AsyncIterator[tuple[Backends, BackendSlot]]:
    async with fleet([TORCH], interrupt_seconds=20.0, max_init_attempts=1) as backends:
        slot = await backends.add("torch", {"device": "cpu"} | settings)
        await until(backends, lambda: slot.status not in {Status.WAITING, Status.LOADING}, 120)
        yield backends, slot


async def load(slot: BackendSlot, path: Path) -> Any:
    async with aclosing(slot.invoke(LOAD_MODEL, LoadModel(path.name, str(path)))) as replies:
        return [reply async for reply in replies][-1]


async def generate(slot: BackendSlot, path: Path, prompt: str, **job: Any) -> list[Any]:
    asked = ImageJob(prompt=prompt, model_path=str(path), width=128, height=128, **job)
    async with aclosing(slot.invoke(GENERATE, asked)) as replies:
        return [reply async for reply in replies]


async def test_pictures_by_a_worker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Through its process, the backend refuses a pickle, draws what the prompt says, is interrupted, frees and goes on;
    of all that, the log has the device and no chatter of the libraries.
    """
    caplog.set_level(logging.INFO)
    path = Path.cwd() / STARTER
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(pickle.dumps({"a": 1}))
    async with worker() as (_, slot):
        pid = slot.host.pid
        with pytest.raises(BackendError, match="pickle"):
            await load(slot, bad)
        assert Loaded("starter") == await load(slot, path)
        red = "a red circle on a blue background"
        replies = await generate(slot, path, red, id="1", seed=1, cfg_scale=4.0)
        assert [Progress(n, 20) for n in range(1, 21)] == [r for r in replies if isinstance(r, Progress)]
        assert any(isinstance(r, EncodedPreview) for r in replies)
        assert isinstance(replies[-1], EncodedOutput)
        picture = Image.open(io.BytesIO(replies[-1].data)).convert("RGB")
        middle, corner = picture.getpixel((64, 64)), picture.getpixel((4, 4))
        assert middle[0] > middle[2] + 40
        assert corner[2] > corner[0] + 40

        again, other = await asyncio.gather(
            generate(slot, path, red, id="2", seed=1, cfg_scale=4.0), generate(slot, path, "a tree", id="3")
        )
        assert isinstance(again[-1], EncodedOutput)
        assert isinstance(other[-1], EncodedOutput)

        asked = ImageJob("4", red, model_path=str(path), width=128, height=128, steps=1000)
        async with aclosing(slot.invoke(GENERATE, asked)) as events:
            async for _event in events:
                break
        assert (await slot.ask(FREE_MEMORY, FreeMemory(system_ram=True))).freed
        alone = await generate(slot, path, red, id="6", seed=1, cfg_scale=4.0)
        assert replies[-1].data == alone[-1].data
        assert pid == slot.host.pid
    said = [text for text in caplog.messages if text.startswith(slot.label) and "worker process" not in text]
    assert [True, True] == [text.endswith(("computing on cpu in float32", " runs")) for text in said]
