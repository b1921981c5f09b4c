"""Pictures that another server sends: taken only if they are what they claim to be, and decoded by a process apart."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from swarmkernel import Aside, AsideError
from swarmkernel_backends_remote.decoding import QUESTION, read_answer
from swarmkernel_backends_remote.errors import PeerError
from swarmkernel_t2i_api import ImageJob

T = TypeVar("T")

#: Pixels of any picture, however large the one that was asked for, and bytes of its file.
MAX_PIXELS: Final = 1 << 26
MAX_FILE: Final = 48 << 20
PREVIEW_PIXELS: Final = 1 << 22
_STARTS: Final = ((b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"), (b"GIF8", "image/gif"))
_THEIRS: Final = "The other server sent a picture that"
_ROUNDED: Final = 63
#: Pictures of other servers are decoded two at a time: each takes many times its file's size in memory.
_POOL: Final = ThreadPoolExecutor(2, "remote-pictures")
#: For each of these threads a process that does it.
_OWN: Final = threading.local()
_DATA_URL: Final = re.compile(r"data:image/[a-z+.-]{1,20};base64,")


def most_pixels(job: ImageJob) -> int:
    """How large a picture may be that comes for a job: as it was asked for, with sides rounded up by some servers."""
    return min((job.width + _ROUNDED) * (job.height + _ROUNDED), MAX_PIXELS)


async def picture(data: bytes, most_pixels: int) -> Any:
    """The PIL image in some bytes, decoded by a process apart; PeerError unless it is a whole picture that is not too large."""
    return await _apart(lambda: _decoded(data, most_pixels))


async def picture_of_url(url: object, most_pixels: int) -> Any:
    """The PIL image in a data URL."""
    return await _apart(lambda: _decoded(_data(url), most_pixels))


async def _apart(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_POOL, work)


async def made_grey(data: bytes) -> bytes:
    """A mask's file as a PNG of one channel, as it is meant here; the header of the file is known to be sound."""
    return await _apart(lambda: _grey(data))


def _grey(data: bytes) -> bytes:
    stream = io.BytesIO()
    _decoded(data, MAX_PIXELS, "The mask", is_grey=True).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def data_url(data: bytes) -> str:
    """A picture's file as a data URL."""
    kind = next((kind for start, kind in _STARTS if data.startswith(start)), "image/png")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _data(url: object) -> bytes:
    found = _DATA_URL.match(url) if isinstance(url, str) else None
    if found is None or not isinstance(url, str):
        raise PeerError("The other server sent a picture that is no data URL.")
    try:
        return base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise PeerError("The other server sent a picture that is not base64.") from None


def _decoded(data: bytes, most_pixels: int, what: str = _THEIRS, *, is_grey: bool = False) -> Any:
    if len(data) > MAX_FILE:
        raise PeerError(f"{what} has more than {MAX_FILE >> 20} MiB.")
    if not hasattr(_OWN, "aside"):
        _OWN.aside = Aside("swarmkernel_backends_remote")
    try:
        found = _OWN.aside.ask(QUESTION.pack(is_grey, most_pixels) + data, read_answer)
    except AsideError:
        found = "takes too much time or memory to read"
    if isinstance(found, str):
        raise PeerError(f"{what} {found}.")
    return found
