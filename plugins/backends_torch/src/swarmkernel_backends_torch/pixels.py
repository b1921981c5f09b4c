"""Pixels to latents and back: properly by the VAE, roughly by a linear map that is fitted to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.loading import scale_of

#: Side of a preview in pixels: small enough to cost nothing on the wire.
PREVIEW_SIDE = 256
_FIT_SIZE = 128


@contextmanager
def on_device(module: Any, device: torch.device, *, offload: bool) -> Iterator[None]:
    """Have *module* on *device*, and with *offload* only for so long."""
    module.to(device)
    try:
        yield
    finally:
        if offload:
            module.to("cpu")


def decode(
    vae: Any, latents: torch.Tensor, size: tuple[int, int], device: torch.device, *, offload: bool = False
) -> np.ndarray[Any, Any]:
    """
    Pixels (height, width, 3) uint8 of latents (channels, height, width).

    A *size* (height, width) that is no multiple of the VAE's scale is cut from the middle of what the latents cover.
    """
    with on_device(vae, device, offload=offload):
        scaled = latents[None].to(device, vae.dtype) / vae.config.scaling_factor
        pixels = vae.decode(scaled, return_dict=False)[0][0]
    covered = (3, *(side * scale_of(vae) for side in latents.shape[1:]))
    if pixels.shape != covered:
        given, wanted = (" x ".join(map(str, shape)) for shape in (pixels.shape, covered))
        raise BackendError(
            f"The VAE gives pictures of {given} where its config.json says {wanted}.", "model_corrupt"
        )
    top, left = ((has - wanted) // 2 for has, wanted in zip(pixels.shape[1:], size, strict=True))
    levels = (_finite(pixels[:, top : top + size[0], left : left + size[1]]).clamp(-1, 1) + 1) * 127.5
    found: np.ndarray[Any, Any] = levels.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return found


def _finite(pixels: torch.Tensor) -> torch.Tensor:
    if not bool(pixels.isfinite().all()):
        raise BackendError("The VAE's output is not finite: try another VAE or dtype.", "not_finite")
    return pixels.float()


def encode(vae: Any, pixels: torch.Tensor, device: torch.device, *, offload: bool = False) -> torch.Tensor:
    """Latents (count, channels, height, width) of pictures (count, 3, height, width) in -1..1: the encoder's mean."""
    with on_device(vae, device, offload=offload):
        mean = vae.encode(pixels.to(device, vae.dtype), return_dict=False)[0].mean
    latents: torch.Tensor = mean.float() * vae.config.scaling_factor
    return latents


@attrs.frozen(eq=False)
class Previewer:
    """An affine map from one latent to the mean colour of its pixels: *matrix* is (channels + 1, 3)."""

    matrix: torch.Tensor

    @classmethod
    def fit(cls, vae: Any, device: torch.device, *, offload: bool = False) -> Previewer:
        """
        Fit the map to *vae* by least squares on pictures of smooth colour fields.

        So it needs no table of factors, and suits any VAE.
        """
        pictures = _colour_fields(4)
        latents = encode(vae, pictures, device, offload=offload).cpu()
        target = torch.nn.functional.interpolate(pictures, size=latents.shape[-2:], mode="area")
        rows = latents.permute(0, 2, 3, 1).flatten(0, 2)
        rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
        solution = torch.linalg.lstsq(
            rows.double(), target.permute(0, 2, 3, 1).flatten(0, 2).double()
        ).solution
        return cls(solution.float().to(device))

    def draw(self, latents: torch.Tensor) -> Image.Image:
        """A rough picture of latents (channels, height, width)."""
        rows = latents.float().permute(1, 2, 0)
        colours = rows @ self.matrix[:-1] + self.matrix[-1]
        levels = ((colours.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
        picture = Image.fromarray(levels)
        factor = PREVIEW_SIDE / max(picture.size)
        return picture.resize(
            [max(1, round(side * factor)) for side in picture.size], Image.Resampling.BILINEAR
        )


def _colour_fields(count: int) -> torch.Tensor:
    """Pictures (count, 3, size, size) in -1..1 whose colour changes smoothly and takes in all of the colour cube."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 3 - 1.5
    fields = torch.nn.functional.interpolate(coarse, size=(_FIT_SIZE, _FIT_SIZE), mode="bicubic")
    return fields.clamp(-1, 1)
