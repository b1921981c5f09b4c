"""The backend that runs in the worker process."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager
from pathlib import Path

import attrs
import torch

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.devices import pick_device, pick_dtype, release_memory
from swarmkernel_backends_torch.libraries import silence
from swarmkernel_backends_torch.loading import load_parts
from swarmkernel_backends_torch.sampler import TorchSampler
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_diffusion import DiffusionError
from swarmkernel_models_api import LoadModel
from swarmkernel_t2i_api import SteppingBackend, files_stamp

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class TorchBackend(SteppingBackend):
    """Stable Diffusion on one device."""

    settings: TorchSettings
    _device: torch.device = attrs.field(default=torch.device("cpu"), init=False)
    _dtype: torch.dtype = attrs.field(default=torch.float32, init=False)

    async def start(self) -> None:
        """Find the device and start the thread that computes."""
        silence()
        self._device = await asyncio.to_thread(pick_device, self.settings.device)
        self._dtype = pick_dtype(self.settings.dtype, self._device)
        log.info("computing on %s in %s", self._device, str(self._dtype).removeprefix("torch."))
        await SteppingBackend.start(self)

    def make_sampler(self, request: LoadModel) -> TorchSampler:
        """Load a diffusers folder or a single file; BackendError with what is wrong."""
        path = Path(request.path)
        parts = load_parts(path, self._dtype, prediction_of(request))
        try:
            return TorchSampler(path, parts, self._device, self._dtype, self.settings)
        except DiffusionError as exc:
            raise BackendError(f"The scheduler_config.json of {path.name}: {exc}", "model_corrupt") from exc

    @property
    def in_system_memory(self) -> bool:
        """Whether the device is the CPU."""
        is_cpu: bool = self._device.type == "cpu"
        return is_cpu

    def wanted(self, request: LoadModel) -> tuple[object, ...]:
        """What the loaded model depends on: path, prediction type and the state of the files."""
        return request.path, prediction_of(request), files_stamp(Path(request.path))

    def told(self, exc: Exception) -> Exception:
        """An error in words that help the person who asked for the picture."""
        if isinstance(exc, DiffusionError):
            return BackendError(str(exc), "invalid_parameter")
        if isinstance(exc, torch.OutOfMemoryError) or _is_full(exc):
            return BackendError("The device ran out of memory; try a smaller picture or batch.", "gpu_oom")
        return exc

    def is_fatal(self, exc: Exception) -> bool:
        """Whether the error is one of the device itself, such as a failed assertion on it; running out of memory is none."""
        return isinstance(exc, torch.AcceleratorError) and not _is_full(exc)

    def release(self) -> None:
        """Give the device's cached memory back."""
        release_memory(self._device)

    def context(self) -> AbstractContextManager[object]:
        """Without gradients."""
        guard: AbstractContextManager[object] = torch.inference_mode()
        return guard


def _is_full(exc: Exception) -> bool:
    """Whether a library beneath torch, which has memory of its own on the device, found none left."""
    return isinstance(exc, torch.AcceleratorError) and "out of memory" in str(exc)


def prediction_of(request: LoadModel) -> str | None:
    """What diffusers calls the prediction type that the model's metadata or class tell of; None if they do not."""
    stated = (request.prediction_type or "").lower().replace("-", "_")
    if stated in {"v", "v_prediction", "v_zsnr"}:
        return "v_prediction"
    if not stated and request.class_id == "stable-diffusion-v2-768-v":
        return "v_prediction"
    return "epsilon" if stated in {"epsilon", "eps"} else None
