"""The backend that runs in the worker process."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import attrs

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.folder import load_parts
from swarmkernel_backends_onnx.graph import RunError
from swarmkernel_backends_onnx.providers import Device, pick_device
from swarmkernel_backends_onnx.sampler import OnnxSampler
from swarmkernel_backends_onnx.settings import OnnxSettings
from swarmkernel_diffusion import DiffusionError
from swarmkernel_models_api import LoadModel
from swarmkernel_t2i_api import SteppingBackend

log = logging.getLogger(__name__)
_OUT_OF_MEMORY = ("failed to allocate", "out of memory", "bad allocation", "bad_alloc")


@attrs.define(eq=False)
class OnnxBackend(SteppingBackend):
    """Stable Diffusion on one execution provider."""

    settings: OnnxSettings
    _device: Device = attrs.field(init=False)

    async def start(self) -> None:
        """Find the provider and start the thread that computes."""
        self._device = await asyncio.to_thread(pick_device, self.settings)
        log.info("computing on %s", self._device.provider)
        await SteppingBackend.start(self)

    def make_sampler(self, request: LoadModel) -> OnnxSampler:
        """Load a diffusers folder of ONNX files; BackendError with what is wrong."""
        path = Path(request.path)
        parts = load_parts(path, self._device)
        try:
            return OnnxSampler(path, parts, self.settings.max_batch)
        except DiffusionError as exc:
            raise BackendError(f"The scheduler_config.json of {path.name}: {exc}", "model_corrupt") from exc

    @property
    def in_system_memory(self) -> bool:
        """Whether the provider computes in system memory."""
        return self._device.memory == "cpu"

    def told(self, exc: Exception) -> Exception:
        """An error in words that help the person who asked for the picture."""
        if isinstance(exc, DiffusionError):
            return BackendError(str(exc), "invalid_parameter")
        text = str(exc).lower()
        if isinstance(exc, MemoryError) or (
            isinstance(exc, RunError) and any(words in text for words in _OUT_OF_MEMORY)
        ):
            return BackendError("The device ran out of memory; try a smaller picture or batch.", "gpu_oom")
        if isinstance(exc, RunError):
            return BackendError(f"The model could not be run: {str(exc)[:300]}", "model_failed")
        return exc
