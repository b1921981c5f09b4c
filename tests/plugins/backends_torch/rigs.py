"""Backends of either engine with short ways to use them, and pictures to start from; for the tests of both."""

import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from swarmkernel_backends_torch.backend import TorchBackend
from swarmkernel_backends_torch.libraries import silence
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_models_api import LoadModel
from swarmkernel_t2i_api import ImageJob, Output

#: The prediction type that the tests' model of each family was trained with.
PREDICTION = {"sd1": "epsilon", "sd2": "v_prediction", "sdxl": "epsilon"}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    silence()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@attrs.define
class Rig:
    """A backend, and short ways to use it."""

    backend: Any
    path: Path = Path()
    """The model that was loaded last."""

    async def load(self, path: Path, **request: Any) -> list[Any]:
        """Load a model; the replies."""
        self.path = path
        return [r async for r in self.backend.load_model(LoadModel(path.name, str(path), **request))]

    async def run(self, prompt: str = "a red circle", **job: Any) -> list[Any]:
        """All events of a job."""
        return [event async for event in self.backend.generate(a_job(self.path, prompt, **job))]

    async def picture(self, prompt: str = "a red circle", **job: Any) -> Any:
        """The pixels of a job's picture."""
        *_, output = await self.run(prompt, **job)
        assert isinstance(output, Output)
        return output.image


def a_job(path: Path, prompt: str = "a red circle", **job: Any) -> ImageJob:
    """A small and quick job."""
    job = {"id": "job", "width": 32, "height": 32, "steps": 4, "cfg_scale": 4.0, "previews": False} | job
    return ImageJob(prompt=prompt, **{"model_path": str(path)} | job)


@asynccontextmanager
async def rig_of(backend: Any) -> AsyncIterator[Rig]:
    await backend.start()
    try:
        yield Rig(backend)
    finally:
        await backend.stop()


@pytest.fixture
async def torch_rig() -> AsyncIterator[Rig]:
    async with rig_of(TorchBackend(TorchSettings(device="cpu"))) as made:
        yield made


@pytest.fixture
def job() -> Callable[..., ImageJob]:
    return a_job


@pytest.fixture
def levels() -> Callable[[Any, Any], int]:
    """The largest difference of two pictures, in levels of 255."""
    return lambda a, b: int(np.abs(a.astype(int) - b.astype(int)).max())


def stripes(size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A picture of smooth colours with a bar."""
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([across, down, 255 - across], axis=2).astype(np.uint8)
    pixels[:, size[0] // 3 : size[0] // 2] = (250, 240, 10)
    return Image.fromarray(pixels)


def half_white(size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A mask that is white on the right."""
    levels = np.zeros(size[::-1], np.uint8)
    levels[:, size[0] // 2 :] = 255
    return Image.fromarray(levels)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


Spoil = Callable[[Path], object]


def say(file: str, **values: Any) -> Spoil:
    """Have a configuration of a model's folder say something else."""

    def spoil(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil
