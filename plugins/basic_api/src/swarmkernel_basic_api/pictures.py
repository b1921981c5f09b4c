"""Pictures of presets, which a process of its own decodes: a file may be made to hurt its decoder."""

import asyncio
import base64
import binascii
import json
from io import BytesIO
from typing import TYPE_CHECKING

import attrs

from swarmkernel import Aside, AsideError

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

#: What a preset without a picture shows.
PLACEHOLDER = "imgs/model_placeholder.jpg"
PREFIX = "data:image/jpeg;base64,"
SIDE = 256
MAX_LONG_SIDE = 2048
MAX_PIXELS = 32_000_000
MAX_CHARACTERS = 32 * 1024 * 1024
MAX_METADATA = 16_000
MAX_WAITING = 8
MADE, REFUSED = b"+", b"-"

_USER_COMMENT = 0x9286
_EXIF = 0x8769


class PictureError(Exception):
    """The picture cannot be used; the text says why."""


@attrs.define(eq=False)
class Pictures:
    """Makes pictures of what clients give, one at a time."""

    _aside: Aside = attrs.field(factory=lambda: Aside("swarmkernel_basic_api"))
    _turn: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    _waiting: int = attrs.field(default=0, init=False)

    async def read(self, given: str | None, metadata: str | None) -> bytes | None:
        """
        Read what a client gives as a preset's picture; `PictureError` says why it cannot be one.

        None keeps what there was (nothing given, or the URL that the client got from us); empty is the placeholder.
        """
        if given is None or not given.strip() or given.startswith("/ViewSpecial/"):
            return None
        if given == PLACEHOLDER:
            return b""
        if len(given) > MAX_CHARACTERS:
            raise PictureError(f"The preview image is larger than {MAX_CHARACTERS} characters.")
        if self._waiting >= MAX_WAITING:
            raise PictureError("Too many preview images are being read; try again in a moment.")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(self._ask, given, metadata)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Read no more."""
        self._aside.close()

    def _ask(self, uri: str, metadata: str | None) -> bytes:
        question = json.dumps(metadata).encode() + b"\n" + uri.encode("utf-8", "replace")
        try:
            mark, told = self._aside.ask(question, lambda raw: (raw[:1], raw[1:]))
        except AsideError:
            raise PictureError("The preview image takes too much time or memory to read.") from None
        if mark != MADE:
            raise PictureError(told.decode("utf-8", "replace"))
        return told


def answer(question: bytes) -> bytes:
    """What the process says to the server."""
    metadata, _, uri = question.partition(b"\n")
    try:
        return MADE + thumbnail(uri.decode(), json.loads(metadata))
    except MemoryError:
        return REFUSED + b"The preview image takes too much memory to read."
    except PictureError as exc:
        return REFUSED + str(exc).encode()


def data_uri(picture: bytes | None) -> str:
    """Write a JPEG as a data URI; without one, the placeholder."""
    return PREFIX + base64.b64encode(picture).decode() if picture else PLACEHOLDER


def thumbnail(uri: str, metadata: str | None) -> bytes:
    """
    Make the JPEG data URI *uri* a small JPEG whose shorter side has 256 pixels.

    *metadata* is stored in it; None keeps the generation parameters of the original. Raises `PictureError`.
    """
    if not uri.startswith(PREFIX):
        raise PictureError(f"A preview image must be a JPEG, given as text that begins with {PREFIX}.")
    try:
        raw = base64.b64decode(uri.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise PictureError("The preview image is not valid base64.") from None
    return _shrunk(raw, metadata)


def _shrunk(raw: bytes, metadata: str | None) -> bytes:
    from PIL import Image  # noqa: PLC0415  # heavy, and most servers never need it

    try:
        with Image.open(BytesIO(raw), formats=["JPEG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise PictureError(f"The preview image has more than {MAX_PIXELS} pixels.")
            out = BytesIO()
            exif = _exif(image.getexif(), metadata)
            _resized(image).save(out, "JPEG", quality=90, exif=exif)
    # A broken file makes the decoder raise almost anything.
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, Image.DecompressionBombError) as exc:
        raise PictureError("The preview image is not a readable JPEG.") from exc
    return out.getvalue()


def _resized(image: "Image") -> "Image":
    width, height = image.size
    scale = min(SIDE / min(width, height), MAX_LONG_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image.draft("RGB", size)  # decodes a large JPEG at a fraction of its size
    return image.convert("RGB").resize(size)


def _exif(original: "Exif", metadata: str | None) -> "Exif":
    """Make EXIF data with nothing but the parameters, so that no place or person slips through."""
    from PIL import Image  # noqa: PLC0415

    comment = original.get_ifd(_EXIF).get(_USER_COMMENT)
    if metadata:
        comment = b"UNICODE\0" + metadata[:MAX_METADATA].encode("utf-16-le")
    exif = Image.Exif()
    if isinstance(comment, bytes) and len(comment) <= 4 * MAX_METADATA:
        exif.get_ifd(_EXIF)[_USER_COMMENT] = comment
    return exif
