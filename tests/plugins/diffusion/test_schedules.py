"""Sigma schedules and trained noise levels by hand formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkernel_diffusion import SCHEDULES, DiffusionError, NoiseSchedule

SD = NoiseSchedule.from_betas(0.00085, 0.012)


def test_trained_sigmas():
    """Stable Diffusion's sigmas go from 0.0292 to 14.6146, the values that its field knows."""
    assert (1000,) == SD.sigmas.shape
    np.testing.assert_allclose([0.0291672, 14.614642], SD.sigmas[[0, -1]], rtol=1e-5)


def test_normal_visits_both_ends():
    """`normal` is even in timesteps from the last to the first."""
    np.testing.assert_allclose([999, 666, 333, 0], SD.timestep(SD.schedule("normal", 4)[:-1]), atol=1e-9)


def test_sgm_uniform_leaves_out_the_first_timestep():
    """`sgm_uniform` is even in timesteps from the last, and stops one short."""
    np.testing.assert_allclose(
        [999, 749.25, 499.5, 249.75], SD.timestep(SD.schedule("sgm_uniform", 4)[:-1]), atol=1e-9
    )


def test_simple_picks_trained_sigmas():
    """`simple` takes every (T / steps)-th trained sigma from the noisy end."""
    np.testing.assert_array_equal([*SD.sigmas[[999, 666, 333]], 0], SD.schedule("simple", 3))


def test_karras_formula():
    """`karras` is equation 5 of the paper with rho 7."""
    low, high = SD.sigmas[0] ** (1 / 7), SD.sigmas[-1] ** (1 / 7)
    expected = [(high + i / 4 * (low - high)) ** 7 for i in range(5)]
    np.testing.assert_allclose([*expected, 0], SD.schedule("karras", 5), rtol=1e-12)


def test_exponential_has_a_constant_ratio():
    """`exponential` falls by the same factor at every step, over the whole trained range."""
    sigmas = SD.schedule("exponential", 6)[:-1]
    np.testing.assert_allclose(
        (SD.sigmas[0] / SD.sigmas[-1]) ** (1 / 5), sigmas[1:] / sigmas[:-1], rtol=1e-12
    )
    np.testing.assert_allclose(SD.sigmas[[-1, 0]], sigmas[[0, -1]])


@given(name=st.sampled_from(sorted(SCHEDULES)), steps=st.integers(1, 1000))
def test_every_schedule_falls_from_the_top_to_zero(name, steps):
    """For any number of steps a schedule has that many levels, falls strictly, starts at the largest sigma, ends in 0."""
    sigmas = SD.schedule(name, steps)
    assert (steps + 1,) == sigmas.shape
    assert (np.diff(sigmas) < 0).all()
    np.testing.assert_allclose(SD.sigmas[-1], sigmas[0])
    assert sigmas[-1] == 0


@given(st.floats(0, 999))
def test_timestep_inverts_sigma(timestep):
    """A timestep's sigma leads back to the timestep, also between trained ones."""
    np.testing.assert_allclose(timestep, SD.timestep(SD.sigma(timestep)), atol=1e-6)


def test_zero_snr_ends_in_almost_pure_noise():
    """Rescaled to zero terminal SNR, the last sigma is 4096 and the first is kept."""
    rescaled = NoiseSchedule.from_betas(0.00085, 0.012, zero_snr=True)
    np.testing.assert_allclose([SD.sigmas[0], 4096], rescaled.sigmas[[0, -1]], rtol=1e-4)


def test_trained_betas_of_a_config():
    """Betas that a configuration spells out are taken as they are."""
    trained = NoiseSchedule.from_config({"trained_betas": [0.1, 0.2], "beta_schedule": "ignored"})
    np.testing.assert_allclose([0.9, 0.72], trained.alphas_cumprod)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SD.schedule("kras", 4), "unknown schedule 'kras': choose one of normal, karras"),
        (lambda: SD.schedule("karras", 0), "steps must be between 1 and 1000, not 0"),
        (lambda: SD.schedule("karras", 1001), "steps must be between 1 and 1000, not 1001"),
        (lambda: NoiseSchedule.from_betas(0.1, 0.2, "cubic"), "unknown beta schedule 'cubic'"),
        (lambda: NoiseSchedule.from_betas(float("nan"), 0.2), "beta start must be a finite number"),
        (lambda: NoiseSchedule.from_betas(0.1, 0.2, steps=10**9), "between 2 and 100000, not 1000000000"),
        (
            lambda: NoiseSchedule.from_config({"trained_betas": "abc"}),
            "trained betas must be a list, not 'abc'",
        ),
        (
            lambda: NoiseSchedule.from_config({"trained_betas": [0.1]}),
            "number of trained betas must be between 2",
        ),
        (
            lambda: NoiseSchedule.from_config({"trained_betas": [0.1, "a"]}),
            "trained beta must be a finite number",
        ),
        (lambda: NoiseSchedule([0.1, 0.9]), "alphas_cumprod must fall strictly"),
        (lambda: NoiseSchedule([0.9, 0.0]), "alphas_cumprod must fall strictly"),
    ],
)
def test_nonsense_is_refused(make, message):
    """Each wrong value is refused in words that name it and what would be right."""
    with pytest.raises(DiffusionError, match=message):
        make()
