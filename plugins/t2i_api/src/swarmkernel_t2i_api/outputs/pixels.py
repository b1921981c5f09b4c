"""Pixels to files. Needs Pillow and NumPy at once: import it in a worker or in a thread, when it is needed.

The same pixels with the same metadata always give the same bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from swarmkernel_t2i_api.outputs.media import embeds
from swarmkernel_t2i_api.outputs.metadata import ascii_json
from swarmkernel_t2i_api.outputs.stealth import hide
from swarmkernel_t2i_api.types import ImageFormat

#: The shorter side of a thumbnail, and the most that the longer one may have.
THUMBNAIL_SIDE = 256
THUMBNAIL_LONG_SIDE = 2048
PREVIEW_SIDE = 512
#: Larger pictures do not fit into a WEBP; they become PNG rather than nothing.
WEBP_LIMIT = 16_383

Encoded = tuple[bytes, str, str]

_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_INCH = 2
_MAGIC = ((b"\xff\xd8\xff", "image/jpeg"), (b"RIFF", "image/webp"), (b"\x89PNG", "image/png"))


def encode_picture(source: Any, form: ImageFormat, text: str | None) -> Encoded:
    """`source` (a PIL image or an array) as a file: its bytes, media type and extension."""
    text = text if form.embed else None
    kind = form.kind
    if kind.startswith("WEBP") and max(_size(source)) > WEBP_LIMIT:
        kind = "PNG"
    if kind == "PNG" and form.color_depth == 16 and _is_deep(source):
        return _png16(source, text, form.dpi), "image/png", "png"
    image = to_image(source)
    if text is not None and _keeps_pixels(kind, form.stealth):
        image = hide(image, text, form.stealth, keep_alpha=kind.startswith("WEBP"))
    if kind == "PNG":
        return _png(image, text, form.dpi), "image/png", "png"
    if kind == "JPG":
        return _jpg(image, text, form), "image/jpeg", "jpg"
    return _webp(image, text, form, lossless=kind == "WEBP_LOSSLESS"), "image/webp", "webp"


def to_image(source: Any) -> Image.Image:
    """`source` as an RGB or RGBA image of 8 bits a channel, without what its maker noted in it."""
    if isinstance(source, np.ndarray):
        image = _from_array(source)
    elif isinstance(source, Image.Image):
        image = source if source.mode in {"RGB", "RGBA"} else _to_colour(source)
    else:
        raise TypeError(f"an output is a PIL image or a NumPy array, not {type(source).__name__}")
    plain = image.copy()
    plain.info = {}
    return plain


def thumbnail(image: Image.Image) -> bytes:
    """A small JPEG of `image`, whose shorter side is 256 pixels (never more than the image has)."""
    scale = min(1.0, THUMBNAIL_SIDE / min(image.size), THUMBNAIL_LONG_SIDE / max(image.size))
    size = tuple(max(1, round(side * scale)) for side in image.size)
    small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return _save(small, "JPEG", quality=85, optimize=True)


def encode_preview(source: Any) -> tuple[bytes, str]:
    """A preview's bytes and media type; bytes that are a picture already are kept."""
    if isinstance(source, bytes):
        for magic, media_type in _MAGIC:
            if source.startswith(magic):
                return source, media_type
        raise ValueError("a preview given as bytes must be a JPEG, WEBP or PNG")
    image = to_image(source).convert("RGB")
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return _save(image, "JPEG", quality=75), "image/jpeg"


def _size(source: Any) -> tuple[int, int]:
    if isinstance(source, np.ndarray):
        return source.shape[1], source.shape[0]
    width, height = source.size
    return width, height


def _is_deep(source: Any) -> bool:
    return isinstance(source, np.ndarray) and source.dtype == np.uint16


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.ndim != 3 or array.shape[2] not in {3, 4} or array.dtype.name not in {"uint8", "uint16"}:
        raise ValueError(
            "an output array is height x width x 3 of uint8 or uint16, "
            f"not {' x '.join(map(str, array.shape))} of {array.dtype}"
        )
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))


def _to_colour(image: Image.Image) -> Image.Image:
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _keeps_pixels(kind: str, stealth: str) -> bool:
    """Whether what `stealth` hides survives the format: lossy ones keep alpha at best."""
    return stealth != "false" and (kind in {"PNG", "WEBP_LOSSLESS"} or (kind, stealth) == ("WEBP", "Alpha"))


def _png(image: Image.Image, text: str | None, dpi: int) -> bytes:
    options: dict[str, Any] = {"compress_level": 1}
    if text is not None:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("parameters", ascii_json(text))
    if dpi:
        options["dpi"] = (dpi, dpi)
    return _save(image, "PNG", **options)


def _png16(array: np.ndarray[Any, Any], text: str | None, dpi: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write: every row unfiltered (a leading 0)."""
    height, width, channels = array.shape
    rows = np.zeros((height, 1 + width * channels * 2), np.uint8)
    rows[:, 1:] = np.ascontiguousarray(array.astype(">u2")).view(np.uint8).reshape(height, -1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0))]
    if dpi:
        per_metre = round(dpi / 0.0254)
        chunks.append((b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    if text is not None:
        chunks.append((b"tEXt", b"parameters\0" + ascii_json(text).encode("ascii")))
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _jpg(image: Image.Image, text: str | None, form: ImageFormat) -> bytes:
    options: dict[str, Any] = {"quality": form.quality, "subsampling": 0 if form.quality >= 90 else 2}
    if form.dpi:
        options["dpi"] = (form.dpi, form.dpi)
    if text is not None and embeds("jpg", text):
        options["exif"] = _exif(text, 0)
    return _save(image.convert("RGB"), "JPEG", **options)


def _webp(image: Image.Image, text: str | None, form: ImageFormat, *, lossless: bool) -> bytes:
    # For lossless files the quality is an effort: beyond this one they hardly shrink and take seconds.
    quality = 20 if lossless else form.quality
    options: dict[str, Any] = {"quality": quality, "lossless": lossless, "method": 1 if lossless else 4}
    if text is not None or form.dpi:
        options["exif"] = _exif(text, form.dpi)
    return _save(image, "WEBP", **options)


def _exif(text: str | None, dpi: int) -> Image.Exif:
    exif = Image.Exif()
    if dpi:
        exif[_X_RESOLUTION] = exif[_Y_RESOLUTION] = float(dpi)
        exif[_RESOLUTION_UNIT] = _INCH
    if text is not None:
        comment = b"UNICODE\0" + text.encode("utf-16-le", "surrogatepass")
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = comment
    return exif


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
