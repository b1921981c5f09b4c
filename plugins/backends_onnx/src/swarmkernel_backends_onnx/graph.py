"""
One network: an ONNX file on a device.

At each step latents and timesteps go to the device and the prediction comes back, for the samplers work on the host, on
NumPy: 64 KiB a row of a picture of 512 x 512, which takes a bus microseconds and the UNet milliseconds. The conditioning
is several times as large and stays there (`OnnxSampler`). On the CPU nothing is copied: arrays and tensors share their
memory. Buffers of one's own that are bound for good would save none of this, so there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.providers import Device
from swarmkernel_backends_onnx.safety import check_graph

Array: TypeAlias = NDArray[Any]
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class RunError(Exception):
    """A graph could not be run. onnxruntime raises plain RuntimeErrors and types of its own, from which nobody can tell."""


@attrs.frozen
class Input:
    """What a graph takes under one name: a tensor of that type and shape, whose free axes are names or None."""

    dtype: Any
    shape: tuple[int | str | None, ...]

    @property
    def is_one(self) -> bool:
        """Whether it is a single number, whatever the number of rows."""
        return set(self.shape) <= {1}


@attrs.frozen(eq=False)
class Graph:
    """A session, and where its tensors live. To be called from one thread."""

    name: str
    session: Any
    device: Device
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, name: str, device: Device) -> Graph:
        """The network *name* of the model in *folder*; BackendError says what is wrong with it."""
        path = folder / name / "model.onnx"
        if not path.is_file():
            raise BackendError(f"{folder.name} has no {name}/model.onnx.", "unsupported_model")
        check_graph(path, folder)
        try:
            session = device.open(path)
        except BackendError:
            raise
        except Exception as exc:
            said = str(exc).replace(str(path), path.name)
            raise BackendError(f"{folder.name}/{name} could not be loaded: {said}", "model_corrupt") from exc
        inputs = {found.name: _input(name, found) for found in session.get_inputs()}
        outputs = tuple(_checked(name, found, "gives").name for found in session.get_outputs())
        return cls(name, session, device, inputs, outputs)

    def put(self, name: str, values: Array) -> Any:
        """*values* on the device, as the input of that name wants them."""
        wanted = np.ascontiguousarray(values, dtype=self.inputs[name].dtype)
        return ort.OrtValue.ortvalue_from_numpy(wanted, self.device.memory, self.device.number)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Array]:
        """The outputs of these names; what is fed is an array, or what `put` gave. RunError when it fails."""
        try:
            return self._run(outputs, feeds)
        except MemoryError:
            raise
        except Exception as exc:
            raise RunError(f"{self.name}: {exc}") from exc

    def _run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Array]:
        binding = self.session.io_binding()
        for name, value in feeds.items():
            bound = self.put(name, value) if isinstance(value, np.ndarray) else value
            binding.bind_ortvalue_input(name, bound)
        for name in outputs:
            binding.bind_output(name, self.device.memory, self.device.number)
        self.session.run_with_iobinding(binding)
        return [value.numpy() for value in binding.get_outputs()]


def _input(graph: str, found: Any) -> Input:
    return Input(_DTYPES[_checked(graph, found, "takes").type], tuple(found.shape))


def _checked(graph: str, found: Any, does: str) -> Any:
    if found.type not in _DTYPES:
        raise BackendError(
            f"The {graph} {does} {found.name} as {found.type}, which is not known here.", "unsupported_model"
        )
    return found
