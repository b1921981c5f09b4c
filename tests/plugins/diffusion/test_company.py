"""What a picture becomes does not depend on who shares its batch."""

import attrs
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmkernel_diffusion import NUMPY, SAMPLERS, SCHEDULES, Engine, NoiseSchedule, Sample

TRAINED = NoiseSchedule.from_betas(0.00085, 0.012)
SHAPES = [(2, 3, 3), (4, 2, 5)]


def rowwise(x, timesteps, conditionings):
    """A NumPy network whose every row depends on that row alone, to the bit."""
    column = (-1, *(1 for _ in x.shape[1:]))
    numbers = np.array(conditionings, dtype=np.float32)
    return np.tanh(x * numbers.reshape(column) + timesteps.reshape(column) * np.float32(0.001))


@st.composite
def samples(draw):
    """Up to six pictures that differ in anything."""
    count = draw(st.integers(1, 6))
    return [draw_sample(draw, i) for i in range(count)]


def draw_sample(draw, name):
    steps = draw(st.integers(1, 6))
    shape = draw(st.sampled_from(SHAPES))
    start = draw(st.integers(0, steps - 1))
    is_masked = draw(st.booleans())
    return Sample(
        id=name,
        shape=shape,
        cond=draw(st.floats(-2, 2)),
        uncond=draw(st.floats(-2, 2)),
        seed=draw(st.integers(0, 2**64 - 1)),
        steps=steps,
        start_step=start,
        init=np.ones(shape, np.float32) if start else None,
        mask=np.linspace(0, 1, shape[1] * shape[2], dtype=np.float32).reshape(1, *shape[1:])
        if is_masked
        else None,
        keep=np.full(shape, 0.5, np.float32) if is_masked else None,
        cfg_scale=draw(st.sampled_from([1.0, 0.0, 3.0, 7.5])),
        sampler=draw(st.sampled_from(sorted(SAMPLERS))),
        schedule=draw(st.sampled_from(sorted(SCHEDULES))),
        variation_strength=draw(st.sampled_from([0.0, 0.3])),
        group=draw(st.sampled_from([None, "xl"])),
    )


@settings(deadline=None, max_examples=60)
@given(
    pictures=samples(),
    arrivals=st.lists(st.integers(0, 12), min_size=6, max_size=6),
    removals=st.dictionaries(st.integers(0, 15), st.integers(0, 5), max_size=3),
    max_batch=st.integers(1, 4),
    buckets=st.sampled_from([(), (8,), (1, 2, 4, 8)]),
)
def test_company_changes_nothing(pictures, arrivals, removals, max_batch, buckets):
    """Whoever joins and leaves at whatever step, each picture that finishes has the very bytes that it has alone."""
    engine = Engine(rowwise, TRAINED, max_batch=max_batch, buckets=buckets)
    waiting = sorted(zip(arrivals, pictures, strict=False), key=lambda pair: (pair[0], pair[1].id))
    finished, removed, tick = {}, set(), 0
    while waiting or engine.active:
        while waiting and waiting[0][0] <= tick:
            engine.admit(waiting.pop(0)[1])
        if engine.remove(removals.get(tick)):
            removed.add(removals[tick])
        finished |= {done.id: done.latents.tobytes() for done in engine.step().finished}
        tick += 1
    expected = {sample.id: alone(sample) for sample in pictures if sample.id not in removed}
    assert expected == finished


def alone(sample):
    engine = Engine(rowwise, TRAINED)
    engine.admit(sample)
    while True:
        if finished := engine.step().finished:
            return finished[0].latents.tobytes()


def make_mixed(**options):
    """One picture per sampler, each with steps, seed, schedule and CFG scale of its own."""
    schedules = sorted(SCHEDULES)
    return [
        Sample(
            id=name,
            shape=(2, 4, 4),
            cond=0.5 + i,
            uncond=-0.5,
            seed=i,
            steps=3 + i,
            sampler=name,
            schedule=schedules[i % len(schedules)],
            cfg_scale=1.0 if i == 2 else 2.0 + i,
            **options,
        )
        for i, name in enumerate(SAMPLERS)
    ]


def test_mixed_batch_equals_solo_runs(network, trained, drain):
    """On NumPy and on torch, a batch of all samplers yields what each picture yields alone."""
    engine = network.engine(trained)
    for sample in make_mixed():
        engine.admit(sample)
    together = drain(engine)
    for sample in make_mixed():
        engine.admit(sample)
        np.testing.assert_allclose(drain(engine)[sample.id], together[sample.id], rtol=0, atol=1e-6)


def test_torch_equals_numpy(network, trained, drain):
    """The same seed gives the same picture on either array library, to floating-point noise."""
    reference = Engine(rowwise, trained, arrays=NUMPY)
    engine = network.engine(trained)
    for mixed in make_mixed(variation_seed=9, variation_strength=0.2):
        sample = attrs.evolve(mixed, cfg_scale=1.5)  # more would amplify the rounding
        reference.admit(sample)
        engine.admit(sample)
    expected, actual = drain(reference), drain(engine)
    for name in SAMPLERS:
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=1e-4)


def test_same_seed_same_bytes(network, trained, drain):
    """Run twice, a picture has the same bytes; with another seed it has others."""
    sample = make_mixed()[1]
    results = []
    for seed in (5, 5, 6):
        engine = network.engine(trained)
        engine.admit(attrs.evolve(sample, seed=seed))
        results.append(drain(engine)[sample.id].tobytes())
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_step_noise_belongs_to_the_step(trained):
    """What LCM adds at a step of the schedule is the same when a picture begins later in the schedule."""
    seen = {start: inputs_of_lcm(trained, start) for start in (0, 2)}
    np.testing.assert_allclose(seen[0][3], seen[2][1], rtol=1e-5)
    assert not np.allclose(seen[0][2], seen[0][3], atol=0.5)


def inputs_of_lcm(trained, start):
    """What the network sees at each call; as it answers 0, that is each step's fresh noise."""
    inputs = []

    def predict(x, timesteps, conditionings):
        inputs.append(x.copy())
        return x * 0

    options = {"steps": 4, "start_step": start, "sampler": "lcm", "schedule": "sgm_uniform", "cfg_scale": 1.0}
    engine = Engine(predict, trained, prediction="sample")
    engine.admit(Sample(id=0, shape=(64,), cond=None, init=np.zeros(64, np.float32), **options))
    while engine.active:
        engine.step()
    return inputs
