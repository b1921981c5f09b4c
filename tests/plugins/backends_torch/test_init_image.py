"""Starting from a picture: as diffusers does it, and what creativity makes of it."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionXLImg2ImgPipeline
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as module
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_img2img as xl_module
from PIL import Image
from rigs import file_of, stripes

from swarmkernel_backend_api import BackendError
from swarmkernel_diffusion import NoiseSchedule, noise

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def by_diffusers(oracle: Any, job: Any, image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The job by diffusers' pipeline for pictures, from the mean of what its VAE says, with the engine's noise."""
    is_xl = hasattr(oracle, "text_encoder_2")
    kind = StableDiffusionXLImg2ImgPipeline if is_xl else StableDiffusionImg2ImgPipeline
    made = kind.from_pipe(oracle)
    made.set_progress_bar_config(disable=True)
    start = torch.from_numpy(noise(job.seed, (4, job.height // 2, job.width // 2)))[None]
    for place in (module, xl_module):
        monkeypatch.setattr(place, "randn_tensor", lambda *_args, **_more: start)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = made.vae.encode(pixels).latent_dist.mean * made.vae.config.scaling_factor
    sigmas = NoiseSchedule.from_config(oracle.scheduler.config).schedule("normal", job.steps)
    found = made(
        prompt=job.prompt, negative_prompt=job.negative_prompt, image=latents, strength=job.init_creativity,
        sigmas=list(sigmas), num_inference_steps=job.steps, guidance_scale=job.cfg_scale, output_type="np",
        **({"original_size": (job.height, job.width), "target_size": (job.height, job.width)} if is_xl else {}),
    ).images[0]  # fmt: skip
    return (found * 255).round().astype(np.uint8)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("creativity", [0.5, 0.75])
async def test_agrees_with_diffusers(
    models: Any, torch_rig: Any, job: Any, levels: Any, monkeypatch: Any, family: str, creativity: float
) -> None:
    """A picture that starts from another is the one of diffusers' pipeline, up to floating-point noise."""
    await torch_rig.load(models.folder(family))
    more = {"seed": 3, "steps": 8, "init_image": file_of(stripes()), "init_creativity": creativity}
    asked = job(torch_rig.path, "a red circle", **more)
    expected = by_diffusers(models.pipeline(family), asked, stripes(), monkeypatch)
    pixels = await torch_rig.picture("a red circle", **more)
    assert levels(expected, pixels) <= 1
    assert levels(expected, await torch_rig.picture("a red circle", **more | {"seed": 4})) > 5


@pytest.fixture(name="sd1")
async def _sd1(models: Any, torch_rig: Any) -> Any:
    await torch_rig.load(models.folder("sd1"))
    return torch_rig


async def test_creativity(sd1: Any, levels: Any) -> None:
    """With 1 the picture counts for nothing; the less creativity, the fewer steps are taken."""
    image = file_of(stripes())
    plain = await sd1.picture(steps=8)
    np.testing.assert_array_equal(plain, await sd1.picture(steps=8, init_image=image, init_creativity=1.0))
    for creativity, steps in ((0.75, 6), (0.5, 4), (0.125, 1), (0.0, 1)):
        *events, _ = await sd1.run(steps=8, init_image=image, init_creativity=creativity)
        told = [event.step for event in events]
        assert (8, steps) == (told[-1], len(told))


@pytest.mark.parametrize(("width", "height"), [(33, 47), (64, 20)])
async def test_any_size(sd1: Any, width: int, height: int) -> None:
    """The init image is stretched to the size that was asked for, whatever that is."""
    made = await sd1.picture(width=width, height=height, init_image=file_of(stripes((50, 10))))
    assert (height, width, 3) == made.shape


async def test_files_of_one_picture(sd1: Any) -> None:
    """What counts is the picture: another file format, an alpha channel or a turned original change nothing."""
    image, job = stripes(), {"init_creativity": 0.5}
    first = await sd1.picture(init_image=file_of(image), **job)
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = file_of(image.rotate(180), exif=exif)
    for same in (file_of(image, "WEBP", lossless=True), file_of(image.convert("RGBA")), turned):
        np.testing.assert_array_equal(first, await sd1.picture(init_image=same, **job))


@pytest.mark.parametrize("data", [b"", b"GIF89a", file_of(stripes())[:120], file_of(stripes(), "JPEG")[:300]])
async def test_damaged_files(sd1: Any, data: bytes) -> None:
    """A file that cannot be decoded fails its job alone, with a clear error."""
    with pytest.raises(BackendError, match="init image is damaged") as caught:
        await sd1.picture(init_image=data)
    assert "invalid_parameter" == caught.value.error_id
    assert (32, 32, 3) == (await sd1.picture()).shape
