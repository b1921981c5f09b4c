"""Samplers land on the distribution that an exact denoiser describes."""

import numpy as np
import pytest

from swarmkernel_diffusion import SAMPLERS, SCHEDULES, Engine, Sample

POINTS = (4000, 2)
MEANS = np.float32([[-2, 1], [2, -1]])
WEIGHTS = np.float32([0.3, 0.7])
SPREAD = 0.5
EXACT = sorted(set(SAMPLERS) - {"lcm"})  # which wants a consistency model, not a denoiser


def epsilon_of(denoiser, trained):
    """An epsilon-predicting network around a denoiser (x, sigma) -> x0 in the variance-exploding variable."""

    def predict(x, timesteps, conditionings):
        sigma = trained.sigma(timesteps).astype(np.float32).reshape(-1, 1, 1)
        ve = x * np.sqrt(sigma**2 + 1)
        return ((ve - denoiser(ve, sigma)) / sigma).astype(np.float32)

    return predict


def mixture_denoiser(x, sigma):
    """The posterior mean of x0 under a mixture of two round Gaussians in the plane."""
    variance = (SPREAD**2 + sigma**2)[..., None]
    gaps = x[..., None, :] - MEANS
    logits = np.log(WEIGHTS) - (gaps**2).sum(-1) / (2 * variance[..., 0])
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    posterior = MEANS + gaps * SPREAD**2 / variance
    return (shares[..., None] * posterior).sum(-2)


def gaussian_consistency(x, sigma):
    """Where the probability flow of one Gaussian takes x: what a perfect consistency model says."""
    return MEANS[0] + (x - MEANS[0]) * SPREAD / np.sqrt(SPREAD**2 + sigma**2)


def sample_points(trained, denoiser, drain, **options):
    """4,000 points in the plane, all in one latent."""
    engine = Engine(epsilon_of(denoiser, trained), trained)
    engine.admit(Sample(id=0, shape=POINTS, cond=None, cfg_scale=1.0, seed=3, **options))
    return drain(engine)[0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", EXACT)
def test_mixture_is_sampled(sampler, schedule, trained, drain):
    """With the exact denoiser of a mixture, points fall to its modes in their shares, with their means and spread."""
    points = sample_points(trained, mixture_denoiser, drain, sampler=sampler, schedule=schedule, steps=60)
    right = points[:, 0] > 0
    np.testing.assert_allclose(0.7, right.mean(), atol=0.04)
    np.testing.assert_allclose(MEANS, [points[~right].mean(0), points[right].mean(0)], atol=0.05)
    np.testing.assert_allclose(SPREAD, [points[~right].std(0), points[right].std(0)], rtol=0.15)


def test_lcm_follows_a_consistency_model(trained, drain):
    """With a perfect consistency model, four steps of LCM land on the Gaussian's mean and spread."""
    points = sample_points(
        trained, gaussian_consistency, drain, sampler="lcm", schedule="sgm_uniform", steps=4
    )
    np.testing.assert_allclose(MEANS[0], points.mean(0), atol=0.02)
    np.testing.assert_allclose(SPREAD, points.std(0), rtol=0.05)


def flow_error(trained, drain, sampler, steps):
    """How far points are from where the exact probability flow of a Gaussian takes their noise, root mean square."""

    def denoiser(x, sigma):
        return MEANS[0] + (x - MEANS[0]) * SPREAD**2 / (SPREAD**2 + sigma**2)

    options = {"sampler": sampler, "schedule": "karras", "steps": steps, "init": np.zeros(POINTS, np.float32)}
    start = sample_points(trained, lambda x, _: x, drain, **options)
    top = trained.sigmas[-1]
    return np.sqrt(
        np.mean((sample_points(trained, denoiser, drain, **options) - gaussian_consistency(start, top)) ** 2)
    )


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m"])
def test_second_order_beats_first(sampler, trained, drain):
    """A second-order sampler is several times closer to the exact flow than Euler's method at the same steps."""
    assert flow_error(trained, drain, sampler, 30) < flow_error(trained, drain, "euler", 30) / 3
