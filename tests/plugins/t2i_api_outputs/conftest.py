"""Pictures, facts and an output folder for the tests of outputs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from swarmkernel_t2i_api import EncodedOutput, ImageFormat
from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.outputs.paths import PathFacts
from swarmkernel_t2i_api.outputs.pixels import encode_picture, thumbnail, to_image

MOMENT = datetime(2026, 8, 21, 14, 12, 5, 678_000)  # noqa: DTZ001  # names use the local clock


@pytest.fixture
def pixels() -> np.ndarray:
    """A 96 x 128 gradient, so that no two pixels are alike."""
    y, x = np.mgrid[0:96, 0:128]
    return np.stack([x * 2, y * 2, (x + y) % 256], -1).astype(np.uint8)


@pytest.fixture
def picture(pixels: np.ndarray) -> EncodedOutput:
    """A finished PNG as it comes from a worker."""
    data, media_type, extension = encode_picture(pixels, ImageFormat(), '{"a": 1}')
    return EncodedOutput(data, media_type, extension, '{"a": 1}', thumbnail(to_image(pixels)))


@pytest.fixture
def facts() -> Callable[..., PathFacts]:
    """Makes the facts of a picture, with what differs."""

    def make(**changes: object) -> PathFacts:
        params = {
            "prompt": "a cat",
            "model": "sdxl/base.safetensors",
            "seed": 7,
            "cfgscale": 7.5,
            "steps": 20,
        }
        return PathFacts(**{"moment": MOMENT, "params": params, "known": ("vae",), **changes})

    return make


@pytest.fixture
async def outputs(tmp_path: Path) -> Outputs:
    """An output folder that is ready."""
    service = Outputs(tmp_path / "Output", min_free=0)
    await service.start()
    return service
