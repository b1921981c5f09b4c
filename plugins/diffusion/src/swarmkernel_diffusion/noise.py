"""Noise from a seed, the same on every device and in every company."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from swarmkernel_diffusion.checks import check_number, check_whole

MAX_SEED = 2**64 - 1
_PARALLEL = 1e-6


def noise(seed: int, shape: Sequence[int], stream: int = 0) -> NDArray[np.float32]:
    """Standard normal float32 values of `shape`, a pure function of seed, stream and shape.

    Philox is counter-based, so the pair (seed, stream) is the key itself and no draw depends on an earlier one.
    Stream 0 is a picture's initial noise, stream i + 1 what an ancestral sampler adds at its step i.
    """
    check_whole("seed", seed, 0, MAX_SEED)
    generator = np.random.Generator(np.random.Philox(key=seed | stream << 64))
    return generator.standard_normal(tuple(shape), dtype=np.float32)


def slerp(a: NDArray[np.float32], b: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """The point at `weight` (0 is a, 1 is b) on the arc from a to b.

    Unlike a straight blend it keeps the length, so blended noise is still noise.
    Spherical linear interpolation after Shoemake, "Animating rotation with quaternion curves", 1985.
    """
    check_number("slerp weight", weight, 0, 1)
    u, v = a.astype(np.float64), b.astype(np.float64)
    lengths = float(np.linalg.norm(u) * np.linalg.norm(v))
    angle = float(np.arccos(np.clip((u * v).sum() / lengths, -1, 1))) if lengths else 0.0
    if np.sin(angle) < _PARALLEL:
        return ((1 - weight) * u + weight * v).astype(np.float32)
    start, end = np.sin((1 - weight) * angle), np.sin(weight * angle)
    return np.asarray((start * u + end * v) / np.sin(angle), dtype=np.float32)


def initial_noise(
    seed: int, shape: Sequence[int], variation_seed: int = 0, variation_strength: float = 0.0
) -> NDArray[np.float32]:
    """The noise that a picture starts from: the seed's, drawn towards the variation seed's by its strength."""
    base = noise(seed, shape)
    if variation_strength == 0:
        return base
    return slerp(base, noise(variation_seed, shape), variation_strength)
