"""Pictures that come with a request: what their headers say, and whether that may go on. Nothing is decoded here."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Final, Literal

import attrs

#: The largest file, and the most pixels that its header may promise.
MAX_BYTES: Final = 32 << 20
MAX_PIXELS: Final = 32_000_000
#: The pieces of a file that are looked at before its size is known; sound files have a few hundred.
_MAX_PIECES: Final = 100_000
_HEAD: Final = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,|(?=[A-Za-z0-9+/=]{10})")
#: JPEG markers that bear the size: frames of every coding, without the tables among them (C4, C8, CC).
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ANIMATED_WEBP: Final = 2

Size = tuple[int, int]


@attrs.frozen
class GivenImage:
    """A picture that came with a request: a PNG, JPEG, WEBP or GIF with one frame, undecoded."""

    data: bytes = attrs.field(repr=False)
    width: int
    height: int


def check_text(text: str) -> str:
    """*text* if it may be a picture by its length and beginning; cheap for any length. Raises ValueError."""
    if len(text) > MAX_BYTES * 4 // 3 + 200:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
    if not _HEAD.match(text[:200]):
        raise ValueError("it is neither a data URL (data:image/png;base64,…) nor bare base64")
    return text


def read_image(text: str) -> GivenImage:
    """The picture of a data URL or of bare base64. Raises ValueError. Takes its time: call it in a thread."""
    check_text(text)
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        data = binascii.a2b_base64("".join(encoded.split()), strict_mode=True)
    except ValueError:
        raise ValueError("it is not base64") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
    width, height = image_size(data)
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels; 1 to {MAX_PIXELS:,} pixels are allowed")
    return GivenImage(data, width, height)


def image_size(data: bytes) -> Size:
    """Width and height as the header of a picture says. ValueError if there is none, or more than one frame."""
    reader = next((reader for magic, reader in _READERS if magic.match(data)), None)
    if reader is None:
        raise ValueError("it is not a PNG, JPEG, WEBP or GIF")
    try:
        size = reader(data)
    except IndexError:
        size = None
    if size is None:
        raise ValueError("it is not a whole picture")
    return size


def _png(data: bytes) -> Size | None:
    at = 8
    for _ in range(_MAX_PIECES):
        kind = data[at + 4 : at + 8]
        if kind == b"acTL":
            raise ValueError("it is animated")
        if kind == b"IDAT":
            return _big(data, 16, 4), _big(data, 20, 4)
        if not kind:
            break
        at += 12 + _big(data, at, 4)
    return None


def _jpeg(data: bytes) -> Size | None:
    at = 2
    for _ in range(_MAX_PIECES):
        if data[at] != 0xFF:
            break
        if data[at + 1] in _JPEG_FRAMES:
            return _big(data, at + 7, 2), _big(data, at + 5, 2)
        # Any number of FF may stand before a marker.
        at += 1 if data[at + 1] == 0xFF else 2 + max(2, _big(data, at + 2, 2))
    return None


def _webp(data: bytes) -> Size | None:
    match data[12:16]:
        case b"VP8 ":
            return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
        case b"VP8L":
            bits = _little(data, 21, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            if data[20] & _ANIMATED_WEBP:
                raise ValueError("it is animated")
            return _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
    return None


def _gif(data: bytes) -> Size | None:
    size, frames = (_little(data, 6, 2), _little(data, 8, 2)), 0
    at = 13 + _colours(data[10])
    for _ in range(_MAX_PIECES):
        match data[at : at + 1]:
            case b"\x21":
                at += 2
            case b"\x2c" if frames == 0:
                frames, at = 1, at + 11 + _colours(data[at + 9])
            case b"\x2c":
                raise ValueError("it is animated")
            case _:
                return size if frames else None
        at = _after_blocks(data, at)
    return None


def _after_blocks(data: bytes, at: int) -> int:
    """Where the chain of blocks at *at* ends; a file that is cut off ends it too."""
    for _ in range(2 * _MAX_PIECES):
        if at >= len(data) or not data[at]:
            return at + 1
        at += 1 + data[at]
    raise ValueError("it is cut into too many blocks")


def _colours(flags: int) -> int:
    """How long the table of colours is that the flags tell of."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _big(data: bytes, at: int, count: int) -> int:
    return _number(data[at : at + count], count, "big")


def _little(data: bytes, at: int, count: int) -> int:
    return _number(data[at : at + count], count, "little")


def _number(piece: bytes, count: int, order: Literal["big", "little"]) -> int:
    if len(piece) < count:
        raise IndexError
    return int.from_bytes(piece, order)


_READERS: Final[tuple[tuple[re.Pattern[bytes], Callable[[bytes], Size | None]], ...]] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n.{4}IHDR", re.DOTALL), _png),
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _webp),
    (re.compile(rb"GIF8[79]a"), _gif),
)
