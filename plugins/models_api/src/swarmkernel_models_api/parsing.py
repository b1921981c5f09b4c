"""What the server and the process that reads model files say to each other: framed JSON. Nothing is pickled."""

from __future__ import annotations

import functools
import json
import struct
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import cattrs

#: Longer than any true message: a description of 4 MiB, each letter escaped.
MAX_MESSAGE: Final = 64 * 1024 * 1024
_LENGTH: Final = struct.Struct("<I")

_Value = TypeVar("_Value")


@functools.cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    return converter


def dump(value: Any) -> bytes:
    """A value of ours as JSON; names that are no text in the file system's encoding survive."""
    return json.dumps(_converter().unstructure(value), default=_plain).encode()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else sorted(value)


def load(raw: bytes, kind: type[_Value]) -> _Value:
    """The value of that class that was sent, with attributes of the right types, or any exception."""
    return _converter().structure(json.loads(raw), kind)


def send(pipe: IO[bytes], message: bytes) -> None:
    """Send one message."""
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes:
    """The next message; EOFError if the other side has gone or breaks the rules."""
    head = pipe.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else MAX_MESSAGE + 1
    if length > MAX_MESSAGE or len(message := pipe.read(length)) < length:
        raise EOFError
    return message
