"""Reading what a safetensors file says of itself, without its tensors and without trusting it."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import orjson

from swarmkernel_models_api.errors import ModelFileError
from swarmkernel_models_api.opening import open_regular

#: A header that says it is longer is not read; real ones have at most a few MiB.
MAX_HEADER: Final = 64 * 1024 * 1024
MAX_DIMENSIONS: Final = 64

#: Budgets for what the parsed header may weigh in memory; a header of 3,000 tensors has 9,000 brackets.
MAX_BRACKETS: Final = 1_000_000
MAX_COMMAS: Final = 4_000_000

#: Bits of one element. A dtype that is not listed is newer than this file, and its size is not checked.
_BITS: Final[Mapping[str, int]] = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
    "F4": 4,
}

_FIELDS: Final = {"dtype", "shape", "data_offsets"}
_INTEGER: Final = {int}


@attrs.frozen
class Header:
    """Names and shapes of the tensors, the file's own metadata, and where the tensor bytes begin."""

    shapes: Mapping[str, list[int]]
    metadata: Mapping[str, str]
    data_start: int


def read_header(path: Path) -> Header:
    """The header of a safetensors file; ModelFileError says why there is none that can be trusted."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = header_length(file.read(8), size)
        return parse_header(file.read(length), size - 8 - length)


def header_problem(path: Path) -> str | None:
    """Why a file is no safetensors file that can be used, or None if it is one."""
    try:
        read_header(path)
    except ModelFileError as exc:
        return str(exc)
    except OSError as exc:
        return f"it cannot be read ({exc.strerror})"
    return None


def header_length(first: bytes, file_size: int) -> int:
    """The header's length in bytes, from the *first* 8 bytes of a file of *file_size* bytes."""
    if len(first) < 8:
        raise ModelFileError("the file ends before its header begins")
    length: int = struct.unpack("<Q", first)[0]
    if length > MAX_HEADER:
        raise ModelFileError("its header claims to be longer than 64 MiB")
    if length > file_size - 8:
        raise ModelFileError("the file ends within its header")
    return length


def parse_header(raw: bytes, data_size: int) -> Header:
    """Check a header of a file with *data_size* bytes of tensors after it.

    As the format demands, the tensors fill that space from the first byte to the last, without gaps or overlaps;
    so a file that was cut short is found here.
    """
    if raw.count(b"{") + raw.count(b"[") > MAX_BRACKETS or raw.count(b",") > MAX_COMMAS:
        raise ModelFileError("its header describes more tensors than any model has")
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise ModelFileError(f"its header is not JSON: {exc}") from None
    if not isinstance(content, dict):
        raise ModelFileError("its header is not a JSON object")
    metadata = _checked_metadata(content.pop("__metadata__", {}))
    spans = [_checked_span(name, tensor) for name, tensor in content.items()]
    _check_layout(spans, data_size)
    return Header({name: tensor["shape"] for name, tensor in content.items()}, metadata, 8 + len(raw))


def _checked_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFileError("its metadata are not texts")
    return metadata


def _checked_span(name: str, tensor: Any) -> tuple[int, int]:
    # Called for every tensor of every file: exact types, since a `match` takes five times as long.
    if type(tensor) is not dict or tensor.keys() != _FIELDS:
        raise ModelFileError(f"its tensor {name[:80]!r} is not described as the format demands")
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if type(dtype) is not str or not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise ModelFileError(f"its tensor {name[:80]!r} has an impossible shape")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ModelFileError(f"its tensor {name[:80]!r} has impossible offsets")
    begin, end = offsets
    bits = _BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != (end - begin) * 8:
        raise ModelFileError(f"its tensor {name[:80]!r} has a size that does not fit its shape")
    return begin, end


def _naturals(value: Any) -> bool:
    """Whether this is a list of whole numbers from zero up."""
    return type(value) is list and _INTEGER.issuperset(map(type, value)) and min(value, default=0) >= 0


def _check_layout(spans: Iterable[tuple[int, int]], data_size: int) -> None:
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise ModelFileError("its tensors overlap or leave gaps")
        position = end
    if position > data_size:
        raise ModelFileError(f"it is cut short: {position - data_size} bytes are missing")
    if position < data_size:
        raise ModelFileError(f"{data_size - position} bytes follow its last tensor")
