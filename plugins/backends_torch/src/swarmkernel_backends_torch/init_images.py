"""Pictures to start from: files to pixels, and pixels to latents. Files are decoded here, in the worker, and nowhere else."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.loading import scale_of
from swarmkernel_backends_torch.pixels import on_device

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
#: The server let the file pass by its header; what the decoder finds must not be larger.
MAX_PIXELS = 32_000_000


def read_picture(data: bytes, size: tuple[int, int]) -> torch.Tensor:
    """The first frame of a file, upright and stretched to *size* (height, width): (3, height, width) in -1..1."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BackendError("The init image has too many pixels.", "invalid_parameter")
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BackendError("The init image is damaged: it cannot be decoded.", "invalid_parameter") from error
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.LANCZOS)
    levels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return levels.float() / 127.5 - 1


def encode(
    vae: Any, pixels: torch.Tensor, shape: tuple[int, ...], device: torch.device, *, offload: bool = False
) -> torch.Tensor:
    """
    Latents of that *shape* (channels, height, width) whose decoded middle is *pixels*: `decode` turned round.

    Where the latents cover more than the pixels, the pixels' edges are repeated.
    """
    scale = scale_of(vae)
    short = [side * scale - has for side, has in zip(shape[1:], pixels.shape[1:], strict=True)]
    top, left = (missing // 2 for missing in short)
    margins = (left, short[1] - left, top, short[0] - top)
    padded = torch.nn.functional.pad(pixels[None], margins, mode="replicate")
    with on_device(vae, device, offload=offload):
        mean = vae.encode(padded.to(device, vae.dtype), return_dict=False)[0].mean
    latents: torch.Tensor = mean[0].float() * vae.config.scaling_factor
    return latents
