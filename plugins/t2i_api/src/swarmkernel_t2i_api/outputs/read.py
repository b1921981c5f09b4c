"""Finds the metadata in a picture's bytes, whoever wrote it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_PIXELS = 128_000_000
MAX_TEXT_BYTES = 4 * 1024 * 1024

_MODEL, _EXIF_IFD, _USER_COMMENT = 0x0110, 0x8769, 0x9286
_CHARSET_BYTES = 8


def read_metadata(data: bytes) -> str | None:
    """The metadata text in the bytes of a PNG, JPEG or WEBP, or None.

    In this order: the PNG text `parameters`, EXIF (`UserComment` before `Model`), the hidden text of the pixels.
    Broken, foreign and oversized files have none. Decodes pixels, so call it in a thread.
    """
    from PIL import Image  # noqa: PLC0415

    if len(data) > MAX_FILE_BYTES:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            return _text_of(image)
    except Exception:  # noqa: BLE001  # a damaged file makes decoders raise nearly anything
        return None


def _text_of(image: Image.Image) -> str | None:
    found = _png_text(image.info) or _exif_text(image)
    if found is None and image.width * image.height <= MAX_PIXELS and image.format != "JPEG":
        from swarmkernel_t2i_api.outputs.stealth import reveal  # noqa: PLC0415

        found = reveal(image, MAX_TEXT_BYTES)
    return None if found is None or len(found) > MAX_TEXT_BYTES else found


def _png_text(info: dict[Any, Any]) -> str | None:
    for key, value in info.items():
        if isinstance(key, str) and key.lower() == "parameters" and isinstance(value, str):
            return value
    return None


def _exif_text(image: Image.Image) -> str | None:
    exif = image.getexif()
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT) or exif.get(_USER_COMMENT)
    text = _comment_text(comment) if isinstance(comment, bytes) else comment
    found = text or exif.get(_MODEL)
    return found.strip("\0 ") or None if isinstance(found, str) else None


def _comment_text(comment: bytes) -> str:
    charset, body = comment[:_CHARSET_BYTES].rstrip(b"\0 "), comment[_CHARSET_BYTES:]
    if charset == b"UNICODE":
        return _utf16(body)
    return (body if charset in {b"ASCII", b""} else comment).decode("utf-8", "replace")


def _utf16(body: bytes) -> str:
    """UTF-16 in the byte order that makes more of it ASCII: writers disagree on it."""
    orders = (body.decode(name, "replace") for name in ("utf-16-le", "utf-16-be"))
    return max(orders, key=lambda text: sum(letter < "\x80" for letter in text))
