"""What an ONNX file would have read besides itself: looked at before onnxruntime gets to see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.protobuf import Buffer, fields

#: The messages of onnx.proto3 that lead to tensors, and what their fields hold.
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {4: "operator", 5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}
#: An operator that has an engine file of its own run, whose content nobody has looked at.
_ENGINE = "EPContext"
#: How onnxruntime marks weights that lie at an address in its own memory.
_MEMORY = "_ORT_MEM_ADDR_"
#: The UNet of the starter model has 26,000. Looking at two million takes some seconds.
MAX_FIELDS = 2_000_000
#: As deep as protobuf's own readers go.
MAX_DEPTH = 100


def check_graph(path: Path, root: Path) -> None:
    """
    Refuse an ONNX file that would have files read from elsewhere than beside itself.

    *root* is the model's folder, which none of its files may lead out of. BackendError says what is wrong.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise _unsafe(path, "leads out of the model's folder")
    try:
        locations = {*_locations(np.memmap(path, np.uint8, "r").data)}
    except (OSError, ValueError) as exc:
        raise BackendError(f"{path.parent.name}/{path.name} cannot be read.", "model_corrupt") from exc
    except BackendError as exc:
        raise BackendError(f"{path.parent.name}/{path.name}: {exc.text}.", exc.error_id) from exc
    for location in locations:
        _check_location(path, location, root)


def _check_location(path: Path, location: str, root: Path) -> None:
    windows, posix = PureWindowsPath(location), PurePosixPath(location)
    is_absolute = windows.drive or windows.root or posix.is_absolute()
    if is_absolute or _MEMORY in location or ".." in {*windows.parts, *posix.parts}:
        raise _unsafe(path, "keeps its weights outside of the model's folder")
    data = path.parent / location
    if not data.is_file():
        raise BackendError(f"{path.parent.name}/{location[:80]} is not there.", "model_corrupt")
    if not data.resolve().is_relative_to(root.resolve()):
        raise _unsafe(path, "has weights that lead out of the model's folder")


def _unsafe(path: Path, what: str) -> BackendError:
    return BackendError(f"{path.parent.name}/{path.name} {what}, which is not safe to load.", "unsafe_model")


def _locations(data: Buffer) -> Iterator[str]:
    """Where the tensors of a model say that their values are."""
    nested = [("model", fields(data))]
    seen = 0
    while nested:
        kind, found = nested[-1]
        number, value = next(found, (0, None))
        if value is None:
            nested.pop()
            continue
        if (seen := seen + 1) > MAX_FIELDS:
            raise BackendError(f"it has more than {MAX_FIELDS:,} entries", "model_corrupt")
        inside = _INSIDE[kind].get(number)
        if inside is None:
            continue
        if isinstance(value, int) or len(nested) > MAX_DEPTH:
            raise BackendError("it is not a whole ONNX file", "model_corrupt")
        if inside == "external":
            yield from _location(value)
        elif inside == "operator":
            _check_operator(value)
        else:
            nested.append((inside, fields(value)))


def _location(entry: Buffer) -> Iterator[str]:
    """The value of an entry whose key is ``location``."""
    found = {number: bytes(value) for number, value in fields(entry) if isinstance(value, memoryview)}
    if found.get(1) == b"location":
        yield found.get(2, b"").decode("utf-8", "surrogateescape")


def _check_operator(name: memoryview) -> None:
    if bytes(name) == _ENGINE.encode():
        raise BackendError("it has a compiled engine in it, which is not safe to load", "unsafe_model")
