"""Each sampler against diffusers' own scheduler, through a real small UNet with classifier-free guidance."""

import importlib

import attrs
import numpy as np
import pytest

from swarmkernel_diffusion import PREDICTIONS, Arrays, Engine, NoiseSchedule, Plan, Sample, noise

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings(  # diffusers hands tensors to np.array
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
SHAPE = (4, 8, 8)
SEED, SCALE = 7, 4.0
DPM = {"solver_order": 2, "final_sigmas_type": "zero", "lower_order_final": True}
ORACLES = {
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "heun": ("HeunDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", **DPM}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", **DPM}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
    "lcm": ("LCMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums are made in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def unet():
    """A random UNet of Stable Diffusion's kind."""
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


@pytest.fixture(scope="module")
def prompts():
    """A conditional and an unconditional conditioning, shape (3, 16)."""
    return tuple(torch.from_numpy(noise(seed, (3, 16))) for seed in (1, 2))


def predict_with(unet):
    """The engine's `predict` around a UNet."""
    return lambda x, t, conditionings: unet(x, t, torch.stack(conditionings), return_dict=False)[0]


def torch_engine(unet, trained, **options):
    return Engine(predict_with(unet), trained, arrays=Arrays(torch.from_numpy, torch.cat), **options)


def make_scheduler(sampler, prediction, **options):
    name, settings = ORACLES[sampler]
    return getattr(diffusers, name)(**BETAS, **settings, prediction_type=prediction, **options)


def levels_of(scheduler):
    """The distinct sigmas, the last 0, and timesteps of a scheduler that has its timesteps set."""
    timesteps = list(dict.fromkeys(scheduler.timesteps.tolist()))
    if hasattr(scheduler, "sigmas"):
        return list(dict.fromkeys(scheduler.sigmas.tolist())), timesteps
    abar = scheduler.alphas_cumprod[timesteps].double()
    return [*((1 - abar) / abar).sqrt().tolist(), 0.0], timesteps


def run_oracle(scheduler, unet, prompts, monkeypatch):
    """The scheduler's own loop, with the engine's noise where the scheduler would draw its own."""
    step = iter(range(10**6))
    module = importlib.import_module(type(scheduler).__module__)

    def injected(shape, **_):
        return torch.from_numpy(noise(SEED, SHAPE, 1 + next(step))).reshape(shape)

    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", injected)
    x = torch.from_numpy(noise(SEED, (1, *SHAPE))) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        cond, uncond = unet(
            scheduler.scale_model_input(torch.cat([x, x]), t), t, torch.stack(prompts), return_dict=False
        )[0].chunk(2)
        x = scheduler.step(uncond + SCALE * (cond - uncond), t, x, return_dict=False)[0]
    return x[0].numpy()


CASES = [(sampler, prediction) for sampler in ORACLES for prediction in PREDICTIONS]
CASES.remove(("euler_ancestral", "sample"))  # diffusers lacks it


@pytest.mark.parametrize("steps", [1, 4, 10, 20])
@pytest.mark.parametrize(("sampler", "prediction"), CASES)
def test_sampler_equals_diffusers(sampler, prediction, steps, unet, prompts, trained, drain, monkeypatch):
    """Over the same sigmas and timesteps a sampler yields what diffusers' scheduler does."""
    scheduler = make_scheduler(sampler, prediction)
    scheduler.set_timesteps(steps)
    plan = Plan.from_sigmas(sampler, *levels_of(scheduler), prediction=prediction)
    expected = run_oracle(scheduler, unet, prompts, monkeypatch)
    engine = torch_engine(unet, trained, prediction=prediction)
    sample = Sample(id=0, shape=SHAPE, cond=prompts[0], uncond=prompts[1], seed=SEED, cfg_scale=SCALE)
    if scheduler.init_noise_sigma != 1:  # these begin with noise * sigma, as from an empty picture
        sample = attrs.evolve(sample, init=torch.zeros(SHAPE))
    engine.admit(sample, plan)
    np.testing.assert_allclose(drain(engine)[0], expected, rtol=0, atol=5e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("steps", [2, 10, 25])
@pytest.mark.parametrize("schedule", ["karras", "exponential"])
def test_schedule_equals_diffusers(schedule, steps, trained):
    """The named schedules have diffusers' sigmas, and each sigma its timestep."""
    scheduler = make_scheduler("euler", "epsilon", **{f"use_{schedule}_sigmas": True})
    scheduler = type(scheduler).from_config(scheduler.config, timestep_spacing="linspace")
    scheduler.set_timesteps(steps)
    sigmas = trained.schedule(schedule, steps)
    np.testing.assert_allclose(sigmas, scheduler.sigmas.numpy(), rtol=1e-4)
    np.testing.assert_allclose(trained.timestep(sigmas[:-1]), scheduler.timesteps.numpy(), atol=0.05)


def test_sgm_uniform_equals_diffusers_trailing(trained):
    """`sgm_uniform` is diffusers' trailing spacing but for that one's rounding to whole timesteps."""
    scheduler = make_scheduler("euler", "epsilon")
    scheduler.set_timesteps(20)
    timesteps = trained.timestep(trained.schedule("sgm_uniform", 20)[:-1])
    np.testing.assert_allclose(timesteps, scheduler.timesteps.numpy(), atol=1)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_noise_schedule_equals_diffusers(kind, zero_snr):
    """A scheduler configuration gives diffusers' cumulative alphas."""
    config = {**BETAS, "beta_schedule": kind, "rescale_betas_zero_snr": zero_snr}
    expected = diffusers.EulerDiscreteScheduler(**config).alphas_cumprod.numpy()
    np.testing.assert_allclose(
        NoiseSchedule.from_config(config).alphas_cumprod, expected, rtol=2e-3, atol=1e-7
    )


def mixed_samples(prompts):
    """Eight pictures that differ in everything."""
    kinds = [*ORACLES, "euler"]
    schedules = [
        "normal",
        "karras",
        "simple",
        "sgm_uniform",
        "exponential",
        "normal",
        "sgm_uniform",
        "karras",
    ]
    return [
        Sample(
            id=i,
            shape=SHAPE,
            cond=prompts[i % 2],
            uncond=prompts[1 - i % 2],
            seed=i,
            steps=3 + i,
            sampler=kinds[i],
            schedule=schedules[i],
            cfg_scale=1.0 if i == 3 else 2.0 + i,
        )
        for i in range(8)
    ]


def in_company(engine, samples):
    """All latents when a sample joins at every second step."""
    waiting, latents, tick = list(samples), {}, 0
    while waiting or engine.active:
        if waiting and tick % 2 == 0:
            engine.admit(waiting.pop(0))
        latents |= {done.id: done.latents.numpy() for done in engine.step().finished}
        tick += 1
    return latents


def test_unet_company(unet, prompts, trained, drain):
    """Through a real network, mixed pictures that join and leave yield what each yields alone."""
    samples = mixed_samples(prompts)
    together = in_company(torch_engine(unet, trained), samples)
    for sample in samples:
        engine = torch_engine(unet, trained)
        engine.admit(sample)
        np.testing.assert_allclose(together[sample.id], drain(engine)[sample.id], rtol=0, atol=1e-3)


def test_single_bucket_makes_company_invisible(unet, prompts, trained, drain):
    """Padded to one size, a picture's bytes are the same alone, in company, and in other company."""
    samples = mixed_samples(prompts)
    one = in_company(torch_engine(unet, trained, buckets=(16,)), samples)
    other = in_company(torch_engine(unet, trained, buckets=(16,)), samples[::-1])
    engine = torch_engine(unet, trained, buckets=(16,))
    engine.admit(samples[4])
    assert one[4].tobytes() == drain(engine)[4].tobytes()
    assert [one[i].tobytes() for i in range(8)] == [other[i].tobytes() for i in range(8)]
