"""The engine's life: who goes when, what is told, and what happens when something fails."""

import subprocess
import sys
from pathlib import Path

import attrs
import numpy as np
import pytest

from swarmkernel_diffusion import (
    DiffusionError,
    Engine,
    NoiseSchedule,
    Plan,
    Progress,
    Sample,
    make_plan,
)

SHAPE = (2, 4, 4)


def make_sample(name=0, **options):
    return Sample(**{"id": name, "shape": SHAPE, "cond": 1.0, "uncond": 0.0, "steps": 3, **options})


def masked(**options):
    """What makes a sample a masked one."""
    return {"mask": np.ones((1, 4, 4), np.float32), "keep": np.zeros(SHAPE, np.float32), **options}


class BoomError(RuntimeError):
    """What the failing network raises."""


class Watched:
    """A NumPy network that notes its calls, raises for the conditioning "boom" and answers NaN for "nan"."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, timesteps, conditionings):
        self.calls.append((x.shape, timesteps.shape, list(conditionings)))
        if "boom" in conditionings:
            raise BoomError
        output = x * np.float32(0.5)
        output[[c == "nan" for c in conditionings]] = np.nan
        return output


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def engine(watched, trained):
    return Engine(watched, trained, max_batch=4)


def test_rows_of_a_forward(engine, watched):
    """A forward has all conditional rows, then the unconditional ones of the guided samples, with a timestep each."""
    engine.admit(make_sample("a", cond="a", uncond="not a"))
    engine.admit(make_sample("b", cond="b", cfg_scale=1.0))
    engine.admit(make_sample("c", cond="c", uncond="not c"))
    engine.step()
    assert [((5, *SHAPE), (5,), ["a", "b", "c", "not a", "not c"])] == watched.calls


def test_unguided_sample_costs_one_row(engine, watched):
    """With CFG scale 1 only the conditional row is computed, and no unconditional conditioning is needed."""
    engine.admit(make_sample(cond="a", uncond=None, cfg_scale=1))
    engine.step()
    assert [((1, *SHAPE), (1,), ["a"])] == watched.calls


def test_guidance_formula(trained):
    """The guided output is u + scale * (c - u), for each sample with its own scale."""
    engine = Engine(lambda x, _t, c: x * 0 + np.float32(c).reshape(-1, 1), trained, prediction="sample")
    for name, scale in (("a", 1.0), ("b", 0.0), ("c", 7.5)):
        engine.admit(make_sample(name, shape=(2,), cond=3.0, uncond=1.0, cfg_scale=scale, steps=1))
    results = {done.id: done.latents.tolist() for done in engine.step().finished}
    assert {"a": [3.0, 3.0], "b": [1.0, 1.0], "c": [16.0, 16.0]} == results


def test_progress_counts_steps(engine):
    """Progress tells whole steps of the schedule, also for a sampler with two calls a step and a later start."""
    engine.admit(make_sample("e", start_step=1, init=np.zeros(SHAPE, np.float32)))
    engine.admit(make_sample("h", sampler="heun"))
    told = []
    while engine.active:
        report = engine.step()
        told.append(([(p.id, p.step) for p in report.advanced], [done.id for done in report.finished]))
    expected = [
        ([("e", 2), ("h", 0)], []),
        ([("h", 1)], ["e"]),
        ([("h", 1)], []),
        ([("h", 2)], []),
        ([], ["h"]),
    ]
    assert expected == told


def test_preview_is_the_denoised_estimate(trained):
    """The preview is None before the first step, then what the network takes for the clean latent."""
    engine = Engine(lambda x, _t, _c: x * 0 + np.float32(2), trained, prediction="sample")
    engine.admit(make_sample())
    assert engine.preview(0) is None
    engine.step()
    np.testing.assert_array_equal(np.full(SHAPE, 2, np.float32), engine.preview(0))
    assert engine.preview("nobody") is None


def test_remove_is_at_once(engine, watched):
    """A removed sample is in no further forward and no report; removing it again tells False."""
    for name in "abc":
        engine.admit(make_sample(name, cond=name, cfg_scale=1.0))
    engine.step()
    assert engine.remove("b")
    assert not engine.remove("b")
    assert ("a", "c") == engine.ids
    report = engine.step()
    assert (Progress("a", 2, 3), Progress("c", 2, 3)) == report.advanced
    assert ["a", "c"] == watched.calls[-1][2]


def test_failing_forward_fails_its_rows_only(engine):
    """When the network raises, the samples of that forward fail with that error and another group's go on."""
    engine.admit(make_sample("bad", cond="boom"))
    engine.admit(make_sample("company"))
    engine.admit(make_sample("other", group="other"))
    report = engine.step()
    assert [("bad", BoomError), ("company", BoomError)] == [
        (lost.id, type(lost.error)) for lost in report.failed
    ]
    assert ("other",) == engine.ids
    engine.admit(make_sample("next"))
    finished = set()
    while engine.active:
        finished |= {done.id for done in engine.step().finished}
    assert {"other", "next"} == finished


def test_nan_fails_that_sample_only(engine):
    """A sample whose latents are not finite fails when it is done; its company finishes."""
    engine.admit(make_sample("bad", cond="nan"))
    engine.admit(make_sample("good"))
    engine.step()
    engine.step()
    report = engine.step()
    assert ["good"] == [done.id for done in report.finished]
    assert ["bad"] == [lost.id for lost in report.failed]
    assert "not finite" in str(report.failed[0].error)
    assert engine.active == 0


@pytest.mark.parametrize("wrong", [lambda x: x[:, :1], lambda x: x.astype(np.float16)])
def test_wrong_output_is_told(wrong, trained):
    """A network that answers another shape or dtype fails its samples in words that name both."""
    engine = Engine(lambda x, _t, _c: wrong(x), trained)
    engine.admit(make_sample())
    (failed,) = engine.step().failed
    assert "instead of float32 of shape (2, 2, 4, 4)" in str(failed.error)


def test_idle_step_is_empty(engine, watched):
    """With nothing active a step calls nothing and reports nothing."""
    report = engine.step()
    assert ((), (), ()) == (report.advanced, report.finished, report.failed)
    assert [] == watched.calls


def test_groups_never_share_a_forward(engine, watched):
    """Samples of another shape or another group value have a forward of their own."""
    engine.admit(make_sample("a", cond="a"))
    engine.admit(make_sample("b", cond="b", shape=(2, 8, 8)))
    engine.admit(make_sample("c", cond="c", group="xl"))
    for _ in range(3):
        engine.step()
    assert [["a", 0.0], ["b", 0.0], ["c", 0.0]] == [conditionings for _, _, conditionings in watched.calls]


def test_nobody_waits_longer_than_a_round(engine):
    """However many share a group, each active sample is moved at least once in as many forwards as serve them all."""
    names = [f"a{i}" for i in range(10)] + ["b", "c"]
    for name in names:
        engine.admit(make_sample(name, steps=100, group=name[0]))
    moved = [{progress.id for progress in engine.step().advanced} for _ in range(60)]
    round_ = 3 + 1 + 1
    for start in range(60 - round_):
        assert set(names) == set().union(*moved[start : start + round_])


def test_max_batch_bounds_forwards_and_may_change(engine, watched):
    """No forward has more samples than `max_batch`, also after it is assigned."""
    for i in range(6):
        engine.admit(make_sample(i, cfg_scale=1.0, steps=20))
    engine.step()
    engine.max_batch = 2
    engine.step()
    assert [4, 2] == [shape[0] for shape, _, _ in watched.calls]
    with pytest.raises(DiffusionError, match="largest batch must be at least 1"):
        engine.max_batch = 0


def test_batches_are_padded_to_buckets(watched, trained):
    """With buckets every forward has one of their row counts, and the padding reaches nobody."""
    engine = Engine(watched, trained, max_batch=2, buckets=(2, 4))
    engine.admit(make_sample("a", cond="a", cfg_scale=1.0))
    engine.step()
    engine.admit(make_sample("b", cond="b", uncond="not b"))
    report = engine.step()
    assert [["a", "a"], ["a", "b", "not b", "a"]] == [conditionings for _, _, conditionings in watched.calls]
    assert ["a", "b"] == [progress.id for progress in report.advanced]


def test_image_to_image_starts_from_the_noised_picture(trained):
    """A sample with `init` begins as init + sigma * noise at its start step's sigma."""
    seen = []
    engine = Engine(lambda x, t, _c: seen.append((x, t)) or x * 0, trained)
    init = np.full(SHAPE, 5, np.float32)
    engine.admit(make_sample(steps=10, start_step=6, init=init, seed=3, cfg_scale=1.0))
    engine.step()
    ((x, t),) = seen
    sigma = trained.schedule("normal", 10)[6]
    np.testing.assert_allclose(trained.timestep(sigma), t[0], rtol=1e-6)
    np.testing.assert_allclose(5 / np.sqrt(sigma**2 + 1), x.mean(), atol=0.4)


def test_plan_of_the_callers_own(engine):
    """A plan over sigmas of the caller's own is followed instead of the named schedule."""
    engine.admit(make_sample(steps=20), Plan.from_sigmas("heun", [3.0, 1.0, 0.0], [600, 300]))
    reports = [engine.step() for _ in range(3)]
    assert [Progress(0, 0, 2)] == list(reports[0].advanced)
    assert [0] == [done.id for done in reports[2].finished]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": "eular"}, "unknown sampler 'eular': choose one of euler, euler_ancestral, heun"),
        ({"schedule": "carras"}, "unknown schedule 'carras'"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": 1001}, "steps must be between 1 and 1000"),
        ({"cfg_scale": float("nan")}, "CFG scale must be a finite number, not nan"),
        ({"cfg_scale": float("inf")}, "CFG scale must be a finite number"),
        ({"cfg_scale": "7"}, "CFG scale must be a finite number, not '7'"),
        ({"seed": -1}, "seed must be between 0 and"),
        ({"seed": 2**64}, "seed must be between 0 and"),
        ({"variation_seed": -1}, "variation seed must be between"),
        ({"variation_strength": 1.5}, "variation strength must be between 0 and 1, not 1.5"),
        ({"start_step": 3}, "start step must be between 0 and 2, not 3"),
        ({"start_step": 1}, "needs an initial latent"),
        ({"mask": np.ones((1, 4, 4), np.float32)}, "go together"),
        ({"keep": np.zeros(SHAPE, np.float32)}, "go together"),
        (masked(keep=np.zeros(SHAPE, np.float64)), "kept latent must be float32, not float64"),
        (masked(keep=np.zeros((2, 4, 5), np.float32)), r"kept latent has shape \(2, 4, 5\), not \(2, 4, 4\)"),
        (masked(mask=np.ones((4, 4), np.float32)), r"mask must be float32 of shape \(1, 4, 4\)"),
        (masked(mask=np.ones((1, 4, 4), bool)), "mask must be float32"),
        (masked(mask=np.full((1, 4, 4), 1.01, np.float32)), "mask must be between 0 and 1"),
        (masked(mask=np.full((1, 4, 4), np.nan, np.float32)), "mask must be between 0 and 1"),
        ({"uncond": None}, "needs an unconditional conditioning"),
        ({"shape": (2, 0)}, "latent size must be at least 1"),
        ({"init": np.zeros(SHAPE, np.float64)}, "initial latent must be float32, not float64"),
        ({"init": np.zeros((1, 4, 4), np.float32)}, r"has shape \(1, 4, 4\), not \(2, 4, 4\)"),
    ],
)
def test_nonsense_is_refused(engine, change, message):
    """Each wrong value of a sample is refused before it runs, in words that name it and what would be right."""
    with pytest.raises(DiffusionError, match=message):
        engine.admit(make_sample(**change))
    assert engine.active == 0


def test_a_name_is_taken_once(engine):
    """A second active sample of one id is refused; after the first has left, the id is free."""
    engine.admit(make_sample("a"))
    with pytest.raises(DiffusionError, match="sample 'a' is already active"):
        engine.admit(make_sample("a"))
    engine.remove("a")
    engine.admit(make_sample("a"))
    assert engine.active == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: Engine(Watched(), t, prediction="flow"), "unknown prediction type 'flow'"),
        (lambda t: Engine(Watched(), t, buckets=(8,)), "the largest bucket must hold 16 rows"),
        (lambda t: Engine(Watched(), t, buckets=(0, 16)), "bucket must be at least 1"),
        (lambda t: make_plan("dpm", t), "unknown sampler 'dpm'"),
        (lambda t: Plan.from_sigmas("euler", [1.0, 2.0, 0.0], [1, 2]), "fall strictly and end in 0"),
        (lambda t: Plan.from_sigmas("euler", [1.0, 0.5], [1]), "fall strictly and end in 0"),
        (lambda t: Plan.from_sigmas("euler", [1.0, 0.0], [1, 2]), "timesteps shape"),
    ],
)
def test_wrong_settings_are_refused(make, message, trained):
    """Engines and plans that cannot work are refused when they are made."""
    with pytest.raises(DiffusionError, match=message):
        make(trained)


def test_v_prediction_and_zero_snr_stay_finite():
    """A zero-terminal-SNR model, whose first sigma is 4096, finishes with finite latents under every kind of step."""
    trained = NoiseSchedule.from_betas(0.00085, 0.012, zero_snr=True)
    engine = Engine(Watched(), trained, prediction="v_prediction")
    for i, sampler in enumerate(("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "lcm")):
        engine.admit(make_sample(i, sampler=sampler, steps=8, cfg_scale=1.0))
    finished = []
    while engine.active:
        finished += engine.step().finished
    assert len(finished) == 5
    assert all(np.abs(done.latents).max() < 100 for done in finished)


def test_samples_are_values(engine):
    """A sample can be evolved and admitted under another id with the same outcome."""
    sample = make_sample("a", sampler="euler_ancestral")
    engine.admit(sample)
    engine.admit(attrs.evolve(sample, id="b"))
    for _ in range(3):
        report = engine.step()
    a, b = report.finished
    np.testing.assert_array_equal(a.latents, b.latents)


def test_import_needs_numpy_and_attrs_only():
    """Importing the package brings in neither torch nor any other heavy library."""
    code = "import sys, swarmkernel_diffusion; print({'torch', 'diffusers', 'scipy', 'onnxruntime'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "set()" == out.strip()


def test_readme_example_runs(capsys):
    """The README's example runs as it stands and finishes both of its pictures."""
    readme = Path(__file__).parents[3] / "plugins" / "diffusion" / "README.md"
    example = readme.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(example, str(readme), "exec"), {})
    assert {"a", "b"} == {line.split()[0] for line in capsys.readouterr().out.splitlines()}
