"""Generating: what a job asks for is what its picture is, alone and in company."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import ldm_layout
import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.loading import load_parts
from swarmkernel_backends_torch.tokenizer import clip_tokenizer
from swarmkernel_t2i_api import Output, Preview, Progress

STARTER = Path("plugins/starter_model/src/swarmkernel_starter_model/models/starter")


@pytest.fixture
async def sd1(models: Any, torch_rig: Any) -> Any:
    """A backend with the SD 1.x model loaded."""
    await torch_rig.load(models.folder("sd1"))
    return torch_rig


@pytest.mark.parametrize(
    "sampler", ["euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "ddim", "lcm"]
)
async def test_progress_counts_every_step_once(sd1: Any, sampler: str) -> None:
    """Progress goes from 1 to the number of steps, each once, whatever the sampler, and the picture comes last."""
    *events, output = await sd1.run(sampler=sampler, steps=5)
    assert [Progress(n, 5) for n in range(1, 6)] == events
    assert isinstance(output, Output)
    assert ((32, 32, 3), np.uint8) == (output.image.shape, output.image.dtype)


async def test_previews_show_the_picture(torch_rig: Any) -> None:
    """On the starter model, previews look more and more like the picture that they become."""
    path = Path.cwd() / STARTER
    await torch_rig.load(path)
    red = "a red circle on a blue background"
    events = await torch_rig.run(red, width=128, height=128, steps=30, seed=1, previews=True)
    previews = [event.image for event in events if isinstance(event, Preview)]
    assert previews
    last = np.asarray(previews[-1].resize((32, 32)), dtype=float).ravel()
    final = np.asarray(Image.fromarray(events[-1].image).resize((32, 32)), dtype=float).ravel()
    assert np.corrcoef(last, final)[0, 1] > 0.8


async def test_previews_only_when_wanted(sd1: Any) -> None:
    """A job without previews has none; with previews there is at least one, of the job's proportions."""
    assert not [e for e in await sd1.run() if isinstance(e, Preview)]
    previews = [e.image for e in await sd1.run(width=64, previews=True) if isinstance(e, Preview)]
    assert {(256, 128)} == {picture.size for picture in previews}


async def test_same_seed_same_picture(sd1: Any) -> None:
    """The same job gives the same bytes; another seed, prompt, negative prompt or CFG scale gives others."""
    first = (await sd1.picture(seed=7)).tobytes()
    assert first == (await sd1.picture(seed=7)).tobytes()
    for change in ({"seed": 8}, {"prompt": "a cat"}, {"negative_prompt": "blue"}, {"cfg_scale": 5.0}):
        assert first != (await sd1.picture(**({"seed": 7} | change))).tobytes()


async def test_same_seed_after_reload(sd1: Any, make_rig: Any) -> None:
    """Another backend makes the same bytes of the same job."""
    first = await sd1.picture(seed=7)
    async with make_rig() as other:
        await other.load(sd1.path)
        np.testing.assert_array_equal(first, await other.picture(seed=7))


async def test_cfg_one_computes_one_row(sd1: Any, forwards: Any) -> None:
    """CFG scale 1 runs no unconditional rows and ignores the negative prompt."""
    with forwards(sd1.backend._sampler.parts.unet) as rows:
        one = await sd1.picture(cfg_scale=1.0, negative_prompt="red")
        assert {1} == set(rows)
        np.testing.assert_array_equal(one, await sd1.picture(cfg_scale=1.0))
        rows.clear()
        await sd1.picture(cfg_scale=2.0)
        assert {2} == set(rows)


async def test_long_prompts_count_to_their_end(sd1: Any) -> None:
    """Words beyond the 75th change the picture, and prompts of different lengths can run together."""
    filler = "cat " * 80
    long = await sd1.picture(filler + "red")
    assert (long != await sd1.picture(filler + "blue")).any()
    both = await asyncio.gather(sd1.picture(filler + "red", id="a"), sd1.picture("red", id="b"))
    assert [(32, 32, 3)] * 2 == [p.shape for p in both]


async def test_clip_stop_changes_the_picture(sd1: Any) -> None:
    """Layer -1 is what SD 1.x does by itself; -2 gives another picture, and a layer that is not there still one."""
    own = await sd1.picture()
    np.testing.assert_array_equal(own, await sd1.picture(clip_stop_at_layer=-1))
    assert (own != await sd1.picture(clip_stop_at_layer=-2)).any()
    assert own.shape == (await sd1.picture(clip_stop_at_layer=-24)).shape


async def test_another_vae(sd1: Any, models: Any, tmp_path: Path) -> None:
    """Another VAE gives another picture, the same from a folder, a file of its own and a whole checkpoint."""
    torch.manual_seed(5)
    vae = tiny_models.vae("sd1")
    vae.save_pretrained(tmp_path / "vae")
    bare = ldm_layout.write(ldm_layout.vae_tensors(vae, ""), tmp_path / "bare.safetensors")
    whole = ldm_layout.write(
        models.tensors("sd1") | ldm_layout.vae_tensors(vae), tmp_path / "whole.safetensors"
    )
    own = await sd1.picture()
    first, *others = [await sd1.picture(vae_path=str(p)) for p in (tmp_path / "vae", bare, whole)]
    assert (own != first).any()
    for other in others:
        np.testing.assert_array_equal(first, other)
    np.testing.assert_array_equal(own, await sd1.picture())


async def test_variation(sd1: Any) -> None:
    """Strength 0 is the seed's picture, 1 the variation seed's, and half of it neither."""
    seed, other = await sd1.picture(seed=1), await sd1.picture(seed=2)
    none, half, full = [
        await sd1.picture(seed=1, variation_seed=2, variation_strength=s) for s in (0.0, 0.5, 1.0)
    ]
    np.testing.assert_array_equal(seed, none)
    np.testing.assert_array_equal(other, full)
    assert (half != seed).any()
    assert (half != other).any()


@pytest.mark.parametrize(("width", "height"), [(33, 47), (100, 64), (64, 65), (2, 1)])
async def test_any_size_is_met(sd1: Any, width: int, height: int) -> None:
    """The picture has the very size that was asked for, also when it is no multiple of what a latent covers."""
    assert (height, width, 3) == (await sd1.picture(width=width, height=height)).shape


async def test_odd_sizes_show_the_middle(sd1: Any) -> None:
    """A size that is no multiple is cut out of the middle of the next larger one."""
    large = await sd1.picture(width=36, height=34)
    np.testing.assert_array_equal(large[0:33, 0:35], await sd1.picture(width=35, height=33))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
async def test_company_does_not_matter(models: Any, torch_rig: Any, levels: Any, family: str) -> None:
    """A picture in company is the picture alone, up to floating-point noise, whatever the others ask for."""
    path = models.folder(family)
    await torch_rig.load(path)
    asked: list[dict[str, Any]] = [
        {"id": "a", "seed": 1, "steps": 6},
        {"id": "b", "prompt": "a cat", "seed": 2, "sampler": "dpmpp_2m", "scheduler": "karras", "steps": 4},
        {
            "id": "c",
            "prompt": "a house",
            "seed": 3,
            "cfg_scale": 1.0,
            "sampler": "euler_ancestral",
            "steps": 5,
        },
        {"id": "d", "seed": 4, "width": 48},
    ]
    alone = [await torch_rig.picture(**job) for job in asked]
    company = await asyncio.gather(*(torch_rig.picture(**job) for job in asked))
    assert max(map(levels, alone, company)) <= 2


async def test_jobs_share_forwards(sd1: Any, forwards: Any) -> None:
    """Four jobs that come together take hardly more forward passes than one, and no more rows than the settings allow."""
    with forwards(sd1.backend._sampler.parts.unet) as rows:
        await asyncio.gather(*(sd1.picture(id=str(n), seed=n, steps=10) for n in range(4)))
    assert len(rows) <= 14
    assert 8 == max(rows)


async def test_largest_batch_is_kept(models: Any, make_rig: Any, forwards: Any) -> None:
    """With a largest batch of 2, no forward pass has more than the 4 rows of two guided pictures."""
    async with make_rig(max_batch=2) as rig:
        await rig.load(models.folder("sd1"))
        with forwards(rig.backend._sampler.parts.unet) as rows:
            await asyncio.gather(*(rig.picture(id=str(n)) for n in range(5)))
        assert 4 == max(rows)


async def test_interrupt_stops_within_a_step(sd1: Any, job: Any, forwards: Any) -> None:
    """A job whose generator is closed is out of the batch after at most the step that runs; others go on."""
    other = asyncio.create_task(sd1.picture(id="other", steps=30))
    with forwards(sd1.backend._sampler.parts.unet) as rows:
        async with aclosing(sd1.backend.generate(job(sd1.path, id="mine", steps=1000))) as events:
            async for _ in events:
                break
        left = len(rows)
        assert (32, 32, 3) == (await other).shape
        while sd1.backend._sampler.active:
            await asyncio.sleep(0.001)
    assert 2 in rows or 2 == rows[-1]
    assert {2} >= set(rows[left + 2 :])


async def test_cancelled_job_leaves(sd1: Any) -> None:
    """Cancelling the task of a job, at once or on its way, takes it out of the batch."""
    for wait in (0.0, 0.05):
        task = asyncio.create_task(sd1.picture(steps=1000))
        await asyncio.sleep(wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            while sd1.backend._sampler.active:
                await asyncio.sleep(0.01)


async def test_nonsense_is_refused(sd1: Any) -> None:
    """Values that make no sense are refused at once with what is wrong, and the running ones go on."""
    running = asyncio.create_task(sd1.picture(id="running", steps=20))
    for bad in (
        {"steps": 0},
        {"steps": 5000},
        {"sampler": "nope"},
        {"cfg_scale": float("nan")},
        {"seed": -1},
    ):
        with pytest.raises(BackendError) as caught:
            await sd1.picture(**bad)
        assert "invalid_parameter" == caught.value.error_id
    assert (32, 32, 3) == (await running).shape


async def test_same_id_twice_is_refused(sd1: Any) -> None:
    """A second job under a running one's id is refused, and the first is not disturbed."""
    first = asyncio.create_task(sd1.picture(id="same", steps=20))
    await asyncio.sleep(0.02)
    with pytest.raises(BackendError, match="already active"):
        await sd1.picture(id="same")
    assert (32, 32, 3) == (await first).shape


async def test_not_a_number_fails_one_job(models: Any, tmp_path: Path, torch_rig: Any) -> None:
    """Weights that give no numbers make a clear error of each job, for UNet and VAE, and the backend works on."""
    for name in ("model.diffusion_model.out.2.weight", "first_stage_model.decoder.conv_out.weight"):
        tensors = models.tensors("sd1")
        tensors |= {name: torch.full_like(tensors[name], float("nan"))}
        broken = ldm_layout.write(tensors, tmp_path / f"{name.split('.')[0]}.safetensors")
        await torch_rig.load(broken)
        with pytest.raises(BackendError, match="not finite"):
            await torch_rig.picture()
    await torch_rig.load(models.folder("sd1"))
    assert (32, 32, 3) == (await torch_rig.picture()).shape


async def test_one_bad_vae_costs_one_job(sd1: Any, models: Any, tmp_path: Path, levels: Any) -> None:
    """A job whose VAE gives no numbers fails alone; the job beside it gets its picture."""
    tensors = ldm_layout.vae_tensors(models.pipeline("sd1").vae, "")
    name = "decoder.conv_out.weight"
    bad = ldm_layout.write(
        tensors | {name: torch.full_like(tensors[name], float("nan"))}, tmp_path / "bad.safetensors"
    )
    failed, good = await asyncio.gather(
        sd1.picture(id="bad", vae_path=str(bad)), sd1.picture(id="good", seed=3), return_exceptions=True
    )
    assert isinstance(failed, BackendError)
    assert levels(await sd1.picture(seed=3), good) <= 2


def test_tokenizer_is_clips() -> None:
    """The tokenizer that single files are given has the ids of OpenAI's CLIP."""
    tokenizer = clip_tokenizer()
    assert [49406, 320, 1125, 539, 320, 2368, 49407] == tokenizer("a photo of a cat").input_ids
    assert [49406, 320, 1125, 539, 320, 2368, 49407] == tokenizer("A  photo of a CAT").input_ids
    assert (49408, 49407, 0) == (len(tokenizer), tokenizer.pad_token_id, clip_tokenizer("!").pad_token_id)


def test_folder_brings_the_same_tokenizer(models: Any) -> None:
    """What a folder's saved tokenizer makes of a prompt is what the built-in one does."""
    (tower,) = load_parts(models.folder("sd2"), torch.float32, None).towers
    text = "Ein großes Haus, 3d & 日本 <|endoftext|> x_y-z's"
    assert clip_tokenizer("!")(text).input_ids == tower.tokenizer(text).input_ids
