"""Which execution provider computes, and how sessions are opened on it."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import attrs
import onnxruntime as ort

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.protobuf import field
from swarmkernel_backends_onnx.settings import OnnxSettings

log = logging.getLogger(__name__)
#: What onnxruntime calls the providers of the settings.
NAMES = {
    "CPU": "CPUExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "TensorRT": "TensorrtExecutionProvider",
    "DirectML": "DmlExecutionProvider",
    "CoreML": "CoreMLExecutionProvider",
    "OpenVINO": "OpenVINOExecutionProvider",
}
#: Where tensors live for each; those that are left out take them from system memory.
_MEMORY = {"CUDA": "cuda", "TensorRT": "cuda", "DirectML": "dml"}
#: In which order auto tries them. TensorRT spends minutes on each model at first, so it is for those who ask for it.
_AUTO = ("CUDA", "DirectML", "CoreML", "OpenVINO", "CPU")
_ADVICE = {
    "CUDA": "It needs an NVIDIA GPU with its driver, and `pip install onnxruntime-gpu[cuda,cudnn]`.",
    "TensorRT": "It needs an NVIDIA GPU with its driver, and `pip install onnxruntime-gpu[cuda,cudnn] tensorrt`.",
    "DirectML": "It is for Windows: `pip install onnxruntime-directml` in place of onnxruntime.",
    "CoreML": "It is for macOS, whose onnxruntime has it.",
    "OpenVINO": "Install it: `pip install onnxruntime-openvino` in place of onnxruntime.",
}
_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_FATAL, _ERROR = 4, 3


@attrs.frozen
class Device:
    """A provider by its name in the settings, and the settings it works with."""

    provider: str
    settings: OnnxSettings

    @property
    def memory(self) -> str:
        """What onnxruntime calls the memory that its tensors live in."""
        return _MEMORY.get(self.provider, "cpu")

    @property
    def number(self) -> int:
        """The number of that memory's device."""
        return 0 if self.memory == "cpu" else self.settings.device_id

    def open(self, path: Path) -> Any:
        """A session of the ONNX file at *path*; BackendError if the provider does not take it."""
        found = self.session(str(path))
        if NAMES[self.provider] not in found.get_providers():
            raise BackendError(f"{self.provider} does not work here any more.", "no_device")
        return found

    def session(self, model: str | bytes) -> Any:
        """A session of a file or of the bytes of one, which may have been given to the CPU instead."""
        providers: list[Any] = [(NAMES[self.provider], self._options())]
        if self.provider != "CPU":
            providers.append(NAMES["CPU"])
        return ort.InferenceSession(model, self._session_options(), providers=providers, enable_fallback=0)

    def _options(self) -> dict[str, str]:
        options = {} if self.memory == "cpu" else {"device_id": str(self.settings.device_id)}
        if self.provider == "CUDA" and not self.settings.arena:
            options["arena_extend_strategy"] = "kSameAsRequested"
        return options

    def _session_options(self) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.settings.threads or _threads_of_workers()
        options.graph_optimization_level = _LEVELS[self.settings.optimization]
        options.enable_cpu_mem_arena = self.settings.arena
        # Threads that wait in a loop take the cores from one another, from NumPy and from the server: without, a batch
        # of small pictures takes half the CPU time, and on busy cores half the wall clock's or less.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = self.provider != "DirectML"  # which cannot
        return options


def _threads_of_workers() -> int:
    """What the server gives each worker; onnxruntime itself does not look there. 0, one per core, if it says nothing."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() else 0


def pick_device(settings: OnnxSettings) -> Device:
    """The provider of the settings; for ``auto`` the first that works. BackendError if the one asked for does not."""
    hush()
    if settings.provider != "auto":
        device = Device(settings.provider, settings)
        if not works(device):
            raise _missing(device)
        return device
    found = (Device(name, settings) for name in _AUTO)
    return next((device for device in found if works(device)), Device("CPU", settings))


def hush() -> None:
    """No telemetry, and of onnxruntime's own messages only errors: what goes wrong, this package says itself."""
    ort.disable_telemetry_events()
    ort.set_default_logger_severity(_ERROR)


def works(device: Device) -> bool:
    """Whether a graph of one operator runs there."""
    name = NAMES[device.provider]
    if name not in ort.get_available_providers():
        return False
    ort.set_default_logger_severity(_FATAL)
    try:
        with redirect_stdout(io.StringIO()):
            if device.memory == "cuda":
                ort.preload_dlls()
            session = device.session(probe())
            session.run(None, {"x": [1.0]})
    except Exception as exc:  # noqa: BLE001  # whatever a driver raises
        log.debug("%s does not work: %s", device.provider, exc)
        return False
    finally:
        ort.set_default_logger_severity(_ERROR)
    return name in session.get_providers()


def _missing(device: Device) -> BackendError:
    there = [name for name in NAMES if works(Device(name, attrs.evolve(device.settings, device_id=0)))]
    number = f" (device {device.number})" if device.number else ""
    advice = _ADVICE.get(device.provider, "")
    return BackendError(
        f"{device.provider}{number} is not available here; {_listed(there)}. {advice}".strip(), "no_device"
    )


def _listed(names: Iterable[str]) -> str:
    return f"there is {', '.join(names)}"


def probe() -> bytes:
    """An ONNX model that adds a number to itself."""
    shape = field(2, field(1, field(1, 1)))  # one dimension of one
    kind = field(2, field(1, field(1, 1) + shape))  # of float32
    node = field(1, b"x") + field(1, b"x") + field(2, b"y") + field(4, b"Add")
    graph = field(1, node) + field(2, b"probe")
    graph += field(11, field(1, b"x") + kind) + field(12, field(1, b"y") + kind)
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))
