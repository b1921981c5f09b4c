"""What server and worker say to each other: length-prefixed msgpack frames of attrs values. Nothing is pickled."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import attrs
import msgpack  # type: ignore[import-untyped]
from cattrs.preconf.msgpack import MsgpackConverter, make_converter
from cattrs.strategies import configure_tagged_union

from swarmkernel_backend_api.errors import BackendError

PREAMBLE: Final = b"\x00swarmkernel-worker-1\n"
"""The first bytes of a worker, so that whatever was printed before it took over its pipe is skipped."""
_PREFIX: Final = 4


class FrameError(Exception):
    """A message that is too large, or no message at all."""


@attrs.frozen
class Open:
    """The first frame: what to make, from which settings (unstructured, secrets in clear), and how often to beat."""

    make: str
    settings_type: str
    settings: Any
    heartbeat_seconds: float
    max_frame: int


@attrs.frozen
class Invoke:
    """Call the backend's method of a capability. Call numbers are never used twice in a server's life."""

    call: int
    capability: str
    request: Any


@attrs.frozen
class Cancel:
    """Interrupt a call."""

    call: int


@attrs.frozen
class Stop:
    """Stop the backend and leave."""


@attrs.frozen
class Started:
    """The backend runs; what it can do."""

    abilities: list[str]
    features: list[str]


@attrs.frozen
class Refused:
    """The backend did not start."""

    text: str
    error_id: str | None
    not_configured: bool


@attrs.frozen
class Reply:
    """One value of a call."""

    call: int
    value: Any


@attrs.frozen
class Done:
    """A call ended well, or obeyed its interrupt."""

    call: int


@attrs.frozen
class Failed:
    """A call ended with an error."""

    call: int
    text: str
    error_id: str | None


@attrs.frozen
class Log:
    """A log record of the worker."""

    level: int
    name: str
    text: str


@attrs.frozen
class Beat:
    """The worker lives."""


ToWorker = Open | Invoke | Cancel | Stop
FromWorker = Started | Refused | Reply | Done | Failed | Log | Beat


@functools.cache
def codec(kind: Any = None) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """How values of a class, or of a union of classes, become plain data and come back."""
    converter = _converter()
    if hasattr(kind, "__args__"):
        configure_tagged_union(kind, converter)
    return (
        functools.partial(converter.unstructure, unstructure_as=kind),
        lambda data: converter.structure(data, kind),
    )


@functools.cache
def _converter() -> MsgpackConverter:
    return make_converter()


def encode(frame: Any, kind: Any, limit: int) -> bytes:
    """A frame with its length before it."""
    dump, _ = codec(kind)
    try:
        data: bytes = msgpack.packb(dump(frame))
    except (TypeError, ValueError, OverflowError) as error:
        raise FrameError(f"a value cannot be sent: {error}") from error
    if len(data) > limit:
        raise FrameError(f"a message of {len(data)} bytes is larger than the limit of {limit}")
    return len(data).to_bytes(_PREFIX, "big") + data


def decode(data: bytes, kind: Any) -> Any:
    """A frame from its bytes."""
    _, load = codec(kind)
    try:
        return load(msgpack.unpackb(data, strict_map_key=False))
    except Exception as error:
        raise FrameError(f"not a message: {error!r:.200}") from error


def _size(prefix: bytes, limit: int) -> int:
    size = int.from_bytes(prefix, "big")
    if size > limit:
        raise FrameError(f"a message of {size} bytes is larger than the limit of {limit}")
    return size


async def receive(reader: asyncio.StreamReader, kind: Any, limit: int) -> Any:
    """The next frame of a stream; None at its end."""
    try:
        size = _size(await reader.readexactly(_PREFIX), limit)
        data = await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return None
    return decode(data, kind)


def read(file: BinaryIO, kind: Any, limit: int) -> Any:
    """The next frame of a blocking file; None at its end."""
    prefix = file.read(_PREFIX)
    if len(prefix) < _PREFIX:
        return None
    size = _size(prefix, limit)
    data = file.read(size)
    return decode(data, kind) if len(data) == size else None


def dump_as(kind: Any, value: Any) -> Any:
    """A value as plain data, to travel inside a frame."""
    try:
        return codec(kind)[0](value)
    except Exception as error:
        raise BackendError(f"{type(value).__name__} cannot be sent: {error!r:.200}", "bad_message") from error


def load_as(kind: Any, data: Any) -> Any:
    """A value from plain data that travelled inside a frame."""
    try:
        return codec(kind)[1](data)
    except Exception as error:
        raise BackendError(f"An unreadable message arrived: {error!r:.200}", "bad_message") from error
