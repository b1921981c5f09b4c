"""Pixels to latents and back: properly by the VAE, roughly by a linear map that is fitted to it."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from PIL import Image

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.folder import Vae
from swarmkernel_backends_onnx.graph import Array, Graph

#: Side of a preview in pixels: small enough to cost nothing on the wire.
PREVIEW_SIDE = 256
_FIT_SIZE = 128


def decode(vae: Vae, latents: Array, size: tuple[int, int]) -> Array:
    """
    Pixels (height, width, 3) uint8 of latents (channels, height, width).

    A *size* (height, width) that is no multiple of the VAE's scale is cut from the middle of what the latents cover.
    """
    decoder = vae.decoder
    found = decoder.run(decoder.outputs[:1], {"latent_sample": latents[None] / vae.scaling})[0][0]
    covered = (3, *(side * vae.scale for side in latents.shape[1:]))
    if found.shape != covered:
        given, wanted = (" x ".join(map(str, shape)) for shape in (found.shape, covered))
        raise BackendError(
            f"The VAE gives pictures of {given} where its config.json says {wanted}.", "model_corrupt"
        )
    top, left = ((has - wanted) // 2 for has, wanted in zip(found.shape[1:], size, strict=True))
    pixels = found[:, top : top + size[0], left : left + size[1]].astype(np.float32)
    if not np.isfinite(pixels).all():
        raise BackendError("The VAE's output is not finite: try a model of higher precision.", "not_finite")
    return _levels(pixels.transpose(1, 2, 0))


def encode(encoder: Graph, vae: Vae, pixels: Array, channels: int) -> Array:
    """Latents (count, channels, height, width) of pictures (count, 3, height, width) in -1..1: the encoder's mean."""
    (name,) = encoder.inputs
    found = encoder.run(encoder.outputs[:1], {name: pixels})[0]
    return found[:, :channels].astype(np.float32) * vae.scaling  # the mean comes before the spread


@attrs.frozen(eq=False)
class Previewer:
    """An affine map from one latent to the mean colour of its pixels: *matrix* is (channels + 1, 3)."""

    matrix: Array

    @classmethod
    def fit(cls, encoder: Graph, vae: Vae, channels: int) -> Previewer:
        """
        Fit the map to the VAE by least squares on pictures of smooth colour fields.

        So it needs no table of factors, and suits any VAE.
        """
        pictures = _colour_fields(4)
        latents = encode(encoder, vae, pictures, channels).astype(np.float64)
        count, _, height, width = latents.shape
        blocks = pictures.reshape(count, 3, height, _FIT_SIZE // height, width, _FIT_SIZE // width)
        rows = latents.transpose(0, 2, 3, 1).reshape(-1, channels)
        target = blocks.mean(axis=(3, 5)).transpose(0, 2, 3, 1).reshape(-1, 3)
        solution = np.linalg.lstsq(np.hstack([rows, np.ones((len(rows), 1))]), target, rcond=None)[0]
        return cls(solution.astype(np.float32))

    def draw(self, latents: Array) -> Image.Image:
        """A rough picture of latents (channels, height, width)."""
        colours = latents.transpose(1, 2, 0) @ self.matrix[:-1] + self.matrix[-1]
        picture = Image.fromarray(_levels(np.nan_to_num(colours)))
        factor = PREVIEW_SIDE / max(picture.size)
        return picture.resize(
            [max(1, round(side * factor)) for side in picture.size], Image.Resampling.BILINEAR
        )


def _levels(values: Array) -> Array:
    """Levels of 0 to 255 for values of -1 to 1."""
    found: Any = np.rint((values.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    return np.ascontiguousarray(found)


def _colour_fields(count: int) -> Array:
    """Pictures (count, 3, size, size) in -1..1 whose colour changes smoothly and takes in all of the colour cube."""
    coarse = np.random.default_rng(0).uniform(-1.5, 1.5, (count * 3, 4, 4)).astype(np.float32)
    size = (_FIT_SIZE, _FIT_SIZE)
    fields = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in coarse]
    return np.stack(fields).reshape(count, 3, *size).clip(-1, 1)
