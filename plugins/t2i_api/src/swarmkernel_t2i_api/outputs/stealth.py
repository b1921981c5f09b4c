"""Metadata in the lowest bits of the pixels, where converting a file does not lose it.

Layout, one bit per lowest bit, pixels walked column by column: a signature of 15 ASCII characters, the length of
the payload in bits (32 bits, big-endian), the payload: the gzipped UTF-8 text.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import Any, Literal

import numpy as np
from PIL import Image

Bits = np.ndarray[Any, np.dtype[np.uint8]]

SIGNATURES = {"Alpha": b"stealth_pngcomp", "RGB": b"stealth_rgbcomp"}
HEADER_BYTES = 19
_GZIP = 31


def hide(image: Image.Image, text: str, mode: str, *, keep_alpha: bool = False) -> Image.Image:
    """`image` with `text` hidden by `mode`, `Alpha` or `RGB`; the image itself if it is too small for the text.

    `keep_alpha` makes the rightmost column a little transparent, for encoders that drop an opaque alpha channel.
    """
    pixels = np.array(image.convert("RGBA") if mode == "Alpha" else image)
    plane = _plane(pixels, mode)
    if mode == "Alpha" and keep_alpha:
        pixels[:, -1, 3] = 254
        plane = plane[:-1]
    payload = gzip.compress(text.encode("utf-8", "surrogatepass"), mtime=0)
    header = SIGNATURES[mode] + struct.pack(">I", len(payload) * 8)
    bits = np.unpackbits(np.frombuffer(header + payload, np.uint8))
    if bits.size > plane.size:
        return image
    flat = plane.reshape(-1)
    flat[: bits.size] = (flat[: bits.size] & 0xFE) | bits
    plane[...] = flat.reshape(plane.shape)
    return Image.fromarray(pixels)


def reveal(image: Image.Image, limit: int) -> str | None:
    """The text hidden in `image`, or None; at most `limit` bytes of it are unpacked."""
    modes: tuple[Literal["Alpha", "RGB"], ...] = ("Alpha", "RGB") if image.mode == "RGBA" else ("RGB",)
    if image.mode not in {"RGB", "RGBA"}:
        return None
    pixels = np.asarray(image)
    for mode in modes:
        payload = _payload(_plane(pixels, mode), SIGNATURES[mode])
        if payload is not None:
            return _unpack(payload, limit)
    return None


def _plane(pixels: Bits, mode: str) -> Bits:
    """The channels that carry bits, as a view in the order of the walk: x, then y, then channel."""
    return pixels[:, :, 3].T if mode == "Alpha" else pixels[:, :, :3].transpose(1, 0, 2)


def _payload(plane: Bits, signature: bytes) -> bytes | None:
    # Whole columns that surely hold the header, so that most pictures cost next to nothing.
    per_column = plane[0].size
    head = _bytes(plane[: -(-HEADER_BYTES * 8 // per_column)])[:HEADER_BYTES]
    if len(head) < HEADER_BYTES or not head.startswith(signature):
        return None
    (length,) = struct.unpack(">I", head[len(signature) :])
    if length % 8 or HEADER_BYTES * 8 + length > plane.size:
        return None
    return _bytes(plane)[HEADER_BYTES : HEADER_BYTES + length // 8]


def _bytes(plane: Bits) -> bytes:
    return np.packbits(plane.reshape(-1) & 1).tobytes()


def _unpack(payload: bytes, limit: int) -> str | None:
    try:
        return zlib.decompressobj(_GZIP).decompress(payload, limit).decode("utf-8", "replace")
    except zlib.error:
        return None
