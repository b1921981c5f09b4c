"""Pictures of presets. The decoder blocks and is loaded on first use: call `thumbnail` in a thread."""

import asyncio
import base64
import binascii
from io import BytesIO
from typing import TYPE_CHECKING

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

_USER_COMMENT = 0x9286
_EXIF = 0x8769


class PictureError(Exception):
    """The picture cannot be used; the text says why."""


async def read_picture(given: str | None, metadata: str | None) -> bytes | None:
    """
    Read what a client gives as a preset's picture.

    None keeps what there was (nothing given, or the URL that the client got from us); empty is the placeholder.
    """
    if given is None or not given.strip() or given.startswith("/ViewSpecial/"):
        return None
    if given == PLACEHOLDER:
        return b""
    return await asyncio.to_thread(thumbnail, given, metadata)


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
    if len(uri) > MAX_CHARACTERS:
        raise PictureError(f"The preview image is larger than {MAX_CHARACTERS} characters.")
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
