"""Masked pictures: what is held, and at which noise level the network sees it."""

import attrs
import numpy as np
import pytest

from swarmkernel_diffusion import SAMPLERS, Engine, Sample, noise

SHAPE = (2, 4, 6)
#: White on the right.
MASK = np.float32(np.arange(6) >= 3)[None, None].repeat(4, axis=1)
CHANGES = np.broadcast_to(MASK == 1, SHAPE)
KEEP = np.linspace(-1, 1, 48, dtype=np.float32).reshape(SHAPE)


def make_sample(**options):
    return Sample(
        **{
            "id": 0,
            "shape": SHAPE,
            "cond": 0.7,
            "uncond": -0.3,
            "cfg_scale": 2.0,
            "steps": 5,
            "seed": 3,
            **options,
        }
    )


def masked(network, mask=MASK, keep=KEEP):
    return {"mask": mask, "keep": network.arrays.asarray(keep)}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_masked_stays(sampler, network, trained, drain):
    """Whatever the sampler, latents end as they are kept where the mask is 0, and as the sampler has them elsewhere."""
    engine = network.engine(trained)
    engine.admit(make_sample(sampler=sampler))
    free = drain(engine)[0]
    engine.admit(make_sample(sampler=sampler, **masked(network)))
    held = drain(engine)[0]
    np.testing.assert_array_equal(held[~CHANGES], KEEP[~CHANGES])
    np.testing.assert_array_equal(held[CHANGES], free[CHANGES])  # a network by elements sees no neighbours
    assert np.abs(held - KEEP)[CHANGES].min() > 1e-4


@pytest.mark.parametrize("sampler", ["euler_ancestral", "heun", "dpmpp_2m"])
def test_the_network_sees_one_noise_level(sampler, trained):
    """At each call the kept latents come with the picture's own noise of that call's sigma."""
    seen = []
    engine = Engine(lambda x, t, _: seen.append((x.copy(), t.copy())) or x * 0, trained)
    engine.admit(make_sample(sampler=sampler, cfg_scale=1.0, mask=MASK, keep=KEEP))
    while engine.active:
        engine.step()
    assert len(seen) == (9 if sampler == "heun" else 5)
    for x, t in seen:
        sigma = np.float32(trained.sigma(t[0]))
        expected = (KEEP + sigma * noise(3, SHAPE)) / np.sqrt(sigma**2 + 1)
        np.testing.assert_allclose(x[0][~CHANGES], expected[~CHANGES], rtol=0, atol=1e-4)


def test_begins_from_noise_or_a_picture(trained):
    """What may change begins as it does without a mask: from noise alone, or from the noised picture."""
    for init in ({}, {"init": KEEP * 2, "start_step": 2}):
        seen = []
        for mask in ({}, {"mask": MASK, "keep": KEEP}):
            engine = Engine(lambda x, *_, seen=seen: seen.append(x.copy()) or x * 0, trained)
            engine.admit(make_sample(cfg_scale=1.0, **init, **mask))
            engine.step()
        np.testing.assert_array_equal(seen[0][0][CHANGES], seen[1][0][CHANGES])
        assert not np.allclose(seen[0][0][~CHANGES], seen[1][0][~CHANGES])


def test_soft_masks_lie_between(network, trained, drain):
    """With half a mask the picture is neither the kept one nor the free one; with a white one it is the free one."""
    found = []
    for mask in ({}, masked(network, MASK * 0 + 1), masked(network, MASK * 0 + 0.5)):
        engine = network.engine(trained)
        engine.admit(make_sample(**mask))
        found.append(drain(engine)[0])
    free, white, half = found
    np.testing.assert_allclose(free, white, rtol=0, atol=1e-6)
    assert 0.03 < np.abs(half - KEEP).mean() < np.abs(free - KEEP).mean()


def test_previews_show_what_stays(trained):
    """The estimate of every step has the kept latents in it."""
    engine = Engine(lambda x, *_: np.tanh(x), trained)
    engine.admit(make_sample(mask=MASK, keep=KEEP))
    for _ in range(4):
        engine.step()
        np.testing.assert_array_equal(KEEP[~CHANGES], engine.preview(0)[~CHANGES])


def test_company(network, trained, drain):
    """A masked picture in company of masked and unmasked ones is the one that it is alone."""
    samples = [
        make_sample(id=0),
        make_sample(id=1, seed=1, **masked(network)),
        make_sample(id=2, cfg_scale=1.0),
    ]
    samples.append(attrs.evolve(samples[1], id=3, sampler="heun", **masked(network, 1 - MASK, KEEP * 3)))
    engine = network.engine(trained)
    for sample in samples:
        engine.admit(sample)
    together = drain(engine)
    for sample in samples:
        engine.admit(sample)
        np.testing.assert_allclose(drain(engine)[sample.id], together[sample.id], rtol=0, atol=1e-6)
