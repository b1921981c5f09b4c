"""Pictures that another server sends: decoded here, and only if they are what they claim to be."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from swarmkernel_backends_remote.errors import PeerError
from swarmkernel_t2i_api import ImageJob

T = TypeVar("T")

#: Pixels of any picture, however large the one that was asked for.
MAX_PIXELS: Final = 1 << 26
PREVIEW_PIXELS: Final = 1 << 22
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
_STARTS: Final = ((b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"), (b"GIF8", "image/gif"))
_ROUNDED: Final = 63
#: Pictures of other servers are decoded two at a time: each takes many times its file's size in memory.
_POOL: Final = ThreadPoolExecutor(2, "remote-pictures")
_DATA_URL: Final = re.compile(r"data:image/[a-z+.-]{1,20};base64,")


def most_pixels(job: ImageJob) -> int:
    """How large a picture may be that comes for a job: as it was asked for, with sides rounded up by some servers."""
    return min((job.width + _ROUNDED) * (job.height + _ROUNDED), MAX_PIXELS)


async def picture(data: bytes, most_pixels: int) -> Any:
    """The PIL image in some bytes, decoded in a thread; PeerError unless it is a whole picture that is not too large."""
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
    _decoded(data, MAX_PIXELS).convert("L").save(stream, "PNG", compress_level=1)
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


def _decoded(data: bytes, most_pixels: int) -> Any:
    from PIL import Image  # noqa: PLC0415  # heavy, and most servers never need it

    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        too_large = image.width * image.height > most_pixels
        if not too_large:
            image.load()
    except Exception as error:
        raise PeerError("The other server sent a picture that cannot be read.") from error
    if too_large:
        raise PeerError(f"The other server sent a picture of {image.width}x{image.height} pixels.")
    return image
