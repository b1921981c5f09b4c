"""Decodes pictures of others in a process of its own, since a file may be made to hurt its decoder."""

from __future__ import annotations

import io
import struct
from typing import Any, Final

#: What is asked: whether for brightness alone, the most pixels there may be, and the file.
QUESTION: Final = struct.Struct("<?I")
#: What is answered for a picture: its mode, width and height, and its pixels. A text is a refusal.
PICTURE: Final = struct.Struct("<8sII")
#: Bytes of a pixel, by PIL's modes.
MODES: Final = {"L": 1, "RGB": 3, "RGBA": 4, "I;16": 2}
MADE, REFUSED = b"+", b"-"
#: The most bytes of pixels in an answer.
MAX_BYTES: Final = 64_000_000
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")


def answer(question: bytes) -> bytes:
    """The picture in a file, or why there is none."""
    is_grey, most_pixels = QUESTION.unpack_from(question)
    try:
        return MADE + _pixels(question[QUESTION.size :], most_pixels, is_grey=is_grey)
    except ValueError as exc:
        return REFUSED + str(exc).encode()
    except MemoryError:
        return REFUSED + b"takes too much memory to read"


def read_answer(raw: bytes) -> Any:
    """The PIL image that was answered, or the text of a refusal; whatever else it is raises."""
    from PIL import Image  # noqa: PLC0415  # heavy, and most servers never need it

    if raw[:1] != MADE:
        return raw[1:].decode()
    name, width, height = PICTURE.unpack_from(raw, 1)
    mode = name.rstrip(b"\0").decode()
    pixels = raw[1 + PICTURE.size :]
    if len(pixels) != width * height * MODES[mode]:
        raise ValueError(mode)
    return Image.frombytes(mode, (width, height), pixels)


def _pixels(data: bytes, most_pixels: int, *, is_grey: bool) -> bytes:
    image = _decoded(data, most_pixels)
    if is_grey and image.mode.startswith("I"):  # 16 bits, which PIL would cut off at 255
        image = image.convert("I").point(lambda level: level / 257)
    if is_grey:
        image = image.convert("L")
    elif image.mode not in MODES:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    width, height = image.size
    if width * height * MODES[image.mode] > MAX_BYTES:
        raise ValueError(f"has {width}x{height} pixels, which is too large")
    pixels: bytes = image.tobytes()
    return PICTURE.pack(image.mode.encode(), width, height) + pixels


def _decoded(data: bytes, most_pixels: int) -> Any:
    from PIL import Image  # noqa: PLC0415

    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        too_large = image.width * image.height > most_pixels
        if not too_large:
            image.load()
    except MemoryError:
        raise
    except Exception as exc:  # a broken file makes the decoder raise almost anything
        raise ValueError("cannot be read") from exc
    if too_large:
        raise ValueError(f"is of {image.width}x{image.height} pixels")
    return image
