"""
The picture that a job starts from: files to pixels, and what stays of them in the finished picture.

Files are decoded here, in the worker, and nowhere else. The server does not import this module.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from swarmkernel_backend_api import BackendError
from swarmkernel_t2i_api.params.images import MAX_PIXELS
from swarmkernel_t2i_api.types import ImageJob

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
#: What Pillow raises for files that are not what they seem; the last by the tags that say which side is up.
_DAMAGED = (OSError, ValueError, SyntaxError, struct.error)
Size = tuple[int, int]


@attrs.frozen(eq=False)
class InitPicture:
    """
    A job's init image and mask, in the size of the picture to make.

    *pixels*: (height, width, 3) uint8. *mask*: (height, width) uint8, 255 where the picture changes and 0 where it
    stays; None where all of it may change.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, job: ImageJob) -> InitPicture | None:
        """What *job* starts from; None if that is noise. BackendError for a file that cannot be decoded."""
        if job.init_image is None:
            return None
        size = (job.width, job.height)
        pixels = _stretched(_read(job.init_image, "init", "RGB"), size, Image.Resampling.LANCZOS)
        if job.mask_image is None:
            return cls(np.asarray(pixels))
        mask = _stretched(_read(job.mask_image, "mask", "L"), size, Image.Resampling.BILINEAR)
        # Half of it is the standard deviation: so much further from an edge, hardly anything of the blur is left.
        blurred = mask.filter(ImageFilter.GaussianBlur(job.mask_blur / 2))
        return cls(np.asarray(pixels), np.asarray(blurred))

    def padded(self, scale: int) -> NDArray[np.float32]:
        """
        The pixels (3, height, width) in -1..1, their edges repeated until the sides are multiples of *scale*.

        A picture that is cut from the middle of such a one is in its place again.
        """
        levels = np.pad(self.pixels, (*_margins(self.pixels, scale), (0, 0)), mode="edge")
        return np.ascontiguousarray(levels.transpose(2, 0, 1), dtype=np.float32) / 127.5 - 1

    def latent_mask(self, scale: int) -> NDArray[np.float32] | None:
        """How much each latent may change, of 0 to 1: the mean of its pixels, shape (1, height, width)."""
        if self.mask is None:
            return None
        levels = np.pad(self.mask, _margins(self.mask, scale), mode="edge")
        blocks = levels.reshape(levels.shape[0] // scale, scale, levels.shape[1] // scale, scale)
        return np.asarray(blocks.mean(axis=(1, 3))[None] / 255, dtype=np.float32)

    def kept(self, made: Any) -> Any:
        """The finished picture, with these pixels where the mask says that they stay."""
        if self.mask is None:
            return made
        share = self.mask[..., None].astype(np.uint16)
        levels = self.pixels * (255 - share) + np.asarray(made) * share
        return ((levels + 127) // 255).astype(np.uint8)


def _read(data: bytes, what: str, mode: Literal["RGB", "L"]) -> Image.Image:
    """The first frame of a file, upright."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:  # its header had said less
                raise BackendError(f"The {what} image has too many pixels.", "invalid_parameter")
            return _of_8_bits(ImageOps.exif_transpose(opened)).convert(mode)
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        raise BackendError(
            f"The {what} image is damaged: it cannot be decoded.", "invalid_parameter"
        ) from error


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 bits on the usual scale; PIL itself would cut them off at 255."""
    if not image.mode.startswith("I"):
        return image
    return image.convert("I").point(lambda level: level / 257).convert("L")


def _stretched(image: Image.Image, size: Size, by: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, by)


def _margins(pixels: NDArray[np.uint8], scale: int) -> tuple[Size, Size]:
    """What is missing above and below, and left and right, of whole latents."""
    short = [-side % scale for side in pixels.shape[:2]]
    above, left = (missing // 2 for missing in short)
    return (above, short[0] - above), (left, short[1] - left)
