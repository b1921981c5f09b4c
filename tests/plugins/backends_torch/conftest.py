"""Small models on disk, made once, and a backend to load them with."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Threads that torch did not start itself take their number of compute threads from here.
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

import attrs
import ldm_layout
import pytest
import tiny_models
import torch
from rigs import PREDICTION, job, levels, one_thread, rig_of, torch_rig  # noqa: F401  # fixtures, most of them

from swarmkernel_backends_torch.backend import TorchBackend
from swarmkernel_backends_torch.settings import TorchSettings

CLASS_ID = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-768-v",
    "sdxl": "stable-diffusion-xl-v1-base",
}
FAMILIES = tuple(PREDICTION)


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


def rig(**settings: Any) -> Any:
    return rig_of(TorchBackend(TorchSettings(**settings)))


@pytest.fixture
def make_rig() -> Callable[..., Any]:
    """A backend with other settings, as an async context manager."""
    return rig


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
