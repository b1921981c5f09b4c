"""As much of protobuf's wire format as it takes to look through an ONNX file: fields in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator

from swarmkernel_backend_api import BackendError

Buffer = bytes | memoryview
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(data: Buffer) -> Iterator[tuple[int, int | memoryview]]:
    """Each field's number and value, a message or text as its bytes; BackendError where that is no protobuf."""
    view = memoryview(data)
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(view, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(view, at)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _damaged()
        if at + size > len(view):
            raise _damaged()
        yield number, view[at : at + size]
        at += size


def field(number: int, value: int | bytes) -> bytes:
    """One field: a number, or a message or text."""
    if isinstance(value, int):
        return _packed(number << 3 | _VARINT) + _packed(value)
    return _packed(number << 3 | _BYTES) + _packed(len(value)) + value


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(view) and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _damaged()


def _packed(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _damaged() -> BackendError:
    return BackendError("it is not a whole ONNX file", "model_corrupt")
