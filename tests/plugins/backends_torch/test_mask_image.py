"""Changing a part of a picture: as diffusers does it, and nothing besides that part."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint as module
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_inpaint as xl_module
from rigs import file_of, half_white, stripes

from swarmkernel_diffusion import NoiseSchedule, noise

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
MASKED = {"init_image": file_of(stripes()), "mask_image": file_of(half_white())}


def by_diffusers(oracle: Any, job: Any, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What diffusers' inpainting pipeline makes of the stripes' right half, with the engine's noise."""
    is_xl = hasattr(oracle, "text_encoder_2")
    kind = StableDiffusionXLInpaintPipeline if is_xl else StableDiffusionInpaintPipeline
    made = kind.from_pipe(oracle)
    made.set_progress_bar_config(disable=True)
    start = torch.from_numpy(noise(job.seed, (4, job.height // 2, job.width // 2)))[None]
    for place in (module, xl_module):
        monkeypatch.setattr(place, "randn_tensor", lambda *_args, **_more: start)
    pixels = torch.from_numpy(np.array(stripes())).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = made.vae.encode(pixels).latent_dist.mean * made.vae.config.scaling_factor
    sigmas = NoiseSchedule.from_config(oracle.scheduler.config).schedule("normal", job.steps)
    sizes = {"original_size": (job.height, job.width), "target_size": (job.height, job.width)}
    found = made(
        prompt=job.prompt, negative_prompt=job.negative_prompt, image=latents, mask_image=half_white(),
        masked_image_latents=latents, strength=job.init_creativity, sigmas=list(sigmas), height=job.height,
        width=job.width, num_inference_steps=job.steps, guidance_scale=job.cfg_scale, output_type="np",
        **(sizes if is_xl else {}),
    ).images[0]  # fmt: skip
    return (found * 255).round().astype(np.uint8)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("creativity", [0.5, 1.0])
async def test_agrees_with_diffusers(
    models: Any, torch_rig: Any, job: Any, levels: Any, monkeypatch: Any, family: str, creativity: float
) -> None:
    """What is under white is what diffusers' inpainting makes, up to floating-point noise; the rest is the init image."""
    await torch_rig.load(models.folder(family))
    more = {"seed": 3, "steps": 8, "init_creativity": creativity, **MASKED}
    expected = by_diffusers(models.pipeline(family), job(torch_rig.path, "a red circle", **more), monkeypatch)
    pixels = await torch_rig.picture("a red circle", **more)
    assert levels(expected[:, 16:], pixels[:, 16:]) <= 1
    np.testing.assert_array_equal(np.asarray(stripes())[:, :16], pixels[:, :16])


@pytest.fixture(name="sd1")
async def _sd1(models: Any, torch_rig: Any) -> Any:
    await torch_rig.load(models.folder("sd1"))
    return torch_rig


@pytest.mark.parametrize("size", [(32, 32), (47, 33)])
async def test_only_the_masked_part_changes(sd1: Any, size: tuple[int, int]) -> None:
    """Far from white nothing changes, to the bit, whatever the size; under white it does."""
    width, height = size
    more = {"init_image": file_of(stripes(size)), "mask_image": file_of(half_white(size)), "mask_blur": 3}
    made = await sd1.picture(width=width, height=height, **more)
    given, edge = np.asarray(stripes(size)), width // 2
    np.testing.assert_array_equal(given[:, : edge - 5], made[:, : edge - 5])
    assert np.abs(given.astype(int) - made)[:, edge + 5 :].mean() > 5


async def test_a_white_mask_is_none(sd1: Any) -> None:
    """With a mask that is all white the picture is the one without it, and with a black one the init image."""
    image = {"init_image": MASKED["init_image"]}
    white, black = [file_of(half_white().point(lambda _, level=level: level)) for level in (255, 0)]
    without = await sd1.picture(**image)
    assert np.abs(without.astype(int) - await sd1.picture(**image, mask_image=white)).max() <= 1
    np.testing.assert_array_equal(np.asarray(stripes()), await sd1.picture(**image, mask_image=black))
