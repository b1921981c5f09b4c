"""Small models on disk, made once, and a backend to load them with."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

# Threads that torch did not start itself take their number of compute threads from here.
os.environ["OMP_NUM_THREADS"] = "1"

import attrs
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import ldm_layout
import tiny_models

from swarmkernel_backends_torch.backend import TorchBackend
from swarmkernel_backends_torch.libraries import silence
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_models_api import LoadModel
from swarmkernel_t2i_api import ImageJob, Output

#: The prediction type that the tests' model of each family was trained with.
PREDICTION = {"sd1": "epsilon", "sd2": "v_prediction", "sdxl": "epsilon"}
CLASS_ID = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-768-v",
    "sdxl": "stable-diffusion-xl-v1-base",
}
FAMILIES = tuple(PREDICTION)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    silence()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@attrs.define
class Models:
    """The models of the tests, made when one is first asked for."""

    root: Path
    _pipelines: dict[str, Any] = attrs.field(factory=dict, init=False)

    def pipeline(self, family: str) -> Any:
        """The diffusers pipeline of that family's model: the oracle."""
        if family not in self._pipelines:
            self._pipelines[family] = tiny_models.pipeline(family, prediction=PREDICTION[family])
        return self._pipelines[family]

    def folder(self, family: str) -> Path:
        """It as a diffusers folder."""
        path = self.root / family
        return path if path.exists() else tiny_models.save(self.pipeline(family), path)

    def file(self, family: str) -> Path:
        """It as a single file."""
        path = self.root / f"{family}.safetensors"
        return path if path.exists() else ldm_layout.write(self.tensors(family), path)

    def tensors(self, family: str) -> dict[str, torch.Tensor]:
        """The tensors of the single file."""
        return ldm_layout.checkpoint(self.pipeline(family), family)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@attrs.define
class Rig:
    """A backend, and short ways to use it."""

    backend: TorchBackend
    path: Path = Path()
    """The model that was loaded last."""

    async def load(self, path: Path, **request: Any) -> list[Any]:
        """Load a model; the replies."""
        wanted = LoadModel(path.name, str(path), **request)
        self.path = path
        return [reply async for reply in self.backend.load_model(wanted)]

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
async def rig(**settings: Any) -> AsyncIterator[Rig]:
    backend = TorchBackend(TorchSettings(**settings))
    await backend.start()
    try:
        yield Rig(backend)
    finally:
        await backend.stop()


@pytest.fixture
async def torch_rig() -> AsyncIterator[Rig]:
    async with rig(device="cpu") as made:
        yield made


@pytest.fixture
def make_rig() -> Callable[..., Any]:
    """A backend with other settings, as an async context manager."""
    return rig


@pytest.fixture
def job() -> Callable[..., ImageJob]:
    return a_job


@contextmanager
def counting(module: torch.nn.Module) -> Iterator[list[int]]:
    rows: list[int] = []
    hook = module.register_forward_pre_hook(lambda _module, args: rows.append(len(args[0])))
    try:
        yield rows
    finally:
        hook.remove()


@pytest.fixture
def forwards() -> Callable[..., Any]:
    """A context manager that lists the rows of each forward pass of a network."""
    return counting


def level_difference(a: Any, b: Any) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.fixture
def levels() -> Callable[[Any, Any], int]:
    """The largest difference of two pictures, in levels of 255."""
    return level_difference
