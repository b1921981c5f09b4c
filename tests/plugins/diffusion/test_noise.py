"""Noise is a pure function of its seed."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmkernel_diffusion import DiffusionError, noise, slerp

SEEDS = st.integers(0, 2**64 - 1)
DIGESTS = {
    (0, 0): "cc479f361f0b2b2e",
    (1, 0): "34f0588c77068400",
    (2**64 - 1, 3): "1fec4e672a541ea5",
}


def test_noise_is_the_same_for_ever():
    """A seed's noise has the bytes that it had when this test was written, whatever machine or version runs it."""
    digests = [
        hashlib.sha256(noise(seed, (4, 8, 8), stream).tobytes()).hexdigest()[:16] for seed, stream in DIGESTS
    ]
    assert list(DIGESTS.values()) == digests


def test_noise_is_standard_normal():
    """Noise has mean 0 and variance 1, in float32."""
    values = noise(1, (64, 64, 64))
    assert np.float32 == values.dtype
    np.testing.assert_allclose([0, 1], [values.mean(), values.var()], atol=0.01)


@given(SEEDS, SEEDS, st.integers(0, 1000), st.integers(0, 1000))
def test_seeds_and_streams_do_not_meet(seed, other, stream, other_stream):
    """Two pairs of seed and stream have the same noise if, and only if, they are the same pair."""
    same = (seed, stream) == (other, other_stream)
    assert same == np.array_equal(noise(seed, (8,), stream), noise(other, (8,), other_stream))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", True, None])
def test_wrong_seeds_are_refused(seed):
    """A seed that is no 64-bit non-negative integer is refused."""
    with pytest.raises(DiffusionError, match="seed must be"):
        noise(seed, (4,))


@settings(deadline=None)
@given(SEEDS, SEEDS, st.floats(0, 1))
def test_slerp_keeps_noise_noise(seed, other, weight):
    """Between two noises, the blend's length lies between theirs; a straight blend's would fall short."""
    a, b = noise(seed, (1024,)), noise(other, (1024,))
    lengths = [np.linalg.norm(a), np.linalg.norm(b)]
    assert 0.95 * min(lengths) <= np.linalg.norm(slerp(a, b, weight)) <= 1.05 * max(lengths)


def test_slerp_goes_round_the_circle():
    """From one axis to another, slerp goes by angle; at its ends it is the ends."""
    a, b = np.float32([1, 0]), np.float32([0, 1])
    np.testing.assert_allclose([np.cos(np.pi / 6), np.sin(np.pi / 6)], slerp(a, b, 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(a, slerp(a, b, 0), atol=1e-7)
    np.testing.assert_allclose(b, slerp(a, b, 1), atol=1e-7)
    np.testing.assert_allclose(a, slerp(a, a, 0.5))
