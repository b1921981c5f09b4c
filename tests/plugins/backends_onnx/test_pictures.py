"""Generating: the same pictures as torch makes, alone and in company."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swarmkernel_backend_api import BackendError, FreeMemory
from swarmkernel_t2i_api import Output, Preview, Progress

FILLER = "cat " * 80
RED = "a red circle on a blue background"


@pytest.fixture
async def sd1(models: Any, onnx_rig: Any) -> Any:
    """A backend with the SD 1.x model loaded."""
    await onnx_rig.load(models.folder("sd1"))
    return onnx_rig


@pytest.mark.parametrize(
    ("family", "job"),
    [
        ("sd1", {}),
        ("sd1", {"clip_stop_at_layer": -2, "sampler": "euler_ancestral", "scheduler": "karras"}),
        ("sd1", {"prompt": FILLER + "red", "cfg_scale": 1.0}),
        ("sd2", {"sampler": "dpmpp_2m"}),
        ("sd2", {"clip_stop_at_layer": -3, "width": 47, "height": 33}),
        ("sdxl", {"negative_prompt": "blue", "variation_seed": 3, "variation_strength": 0.3}),
        ("sdxl", {"clip_stop_at_layer": -1, "prompt": FILLER}),
    ],
)
async def test_pictures_are_torchs(
    models: Any, onnx_rig: Any, torch_rig: Any, levels: Any, family: str, job: dict[str, Any]
) -> None:
    """Both engines make the same picture of the same job, up to 2 levels of 255."""
    path = models.folder(family)
    await onnx_rig.load(path)
    await torch_rig.load(path)
    expected = await torch_rig.picture(**({"seed": 7} | job))
    assert levels(expected, await onnx_rig.picture(**({"seed": 7} | job))) <= 2
    assert expected.std() > 5


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m_sde", "lcm"])
async def test_progress_counts_every_step_once(sd1: Any, sampler: str) -> None:
    """Progress goes from 1 to the number of steps, each once, whatever the sampler, and the picture comes last."""
    *events, output = await sd1.run(sampler=sampler, steps=5)
    assert [Progress(n, 5) for n in range(1, 6)] == events
    assert isinstance(output, Output)
    assert ((32, 32, 3), np.uint8) == (output.image.shape, output.image.dtype)


async def test_previews(sd1: Any, models: Any, tmp_path: Path) -> None:
    """Previews come when they are wanted, in the job's proportions, and not from a model without an encoder."""
    assert not [e for e in await sd1.run() if isinstance(e, Preview)]
    previews = [e.image for e in await sd1.run(width=64, previews=True) if isinstance(e, Preview)]
    assert {(256, 128)} == {picture.size for picture in previews}
    bare = shutil.copytree(models.folder("sd1"), tmp_path / "bare")
    shutil.rmtree(bare / "vae_encoder")
    await sd1.load(bare)
    assert not [e for e in await sd1.run(previews=True) if isinstance(e, Preview)]


async def test_the_starter_models_pictures_are_torchs(
    models: Any, onnx_rig: Any, torch_rig: Any, levels: Any
) -> None:
    """The model that ships with the server gives the same picture through both engines, up to 2 levels of 255."""
    pictures = []
    for rig in (onnx_rig, torch_rig):
        await rig.load(models.starter)
        pictures.append(await rig.picture(RED, width=128, height=128, steps=20, seed=1))
    assert levels(*pictures) <= 2


async def test_previews_show_the_picture(models: Any, onnx_rig: Any) -> None:
    """On a model that draws something, previews become the picture."""
    await onnx_rig.load(models.starter)
    events = await onnx_rig.run(RED, width=128, height=128, steps=20, seed=1, previews=True)
    previews = [event.image for event in events if isinstance(event, Preview)]
    last = np.asarray(previews[-1].resize((32, 32)), dtype=float).ravel()
    final = np.asarray(Image.fromarray(events[-1].image).resize((32, 32)), dtype=float).ravel()
    assert np.corrcoef(last, final)[0, 1] > 0.8


async def test_nothing_stays_of_a_batch(sd1: Any) -> None:
    """Once no picture runs any more, the conditioning of those that did is kept on the device no longer."""
    sampler = sd1.backend._sampler
    running = asyncio.create_task(sd1.picture(steps=30))
    async with asyncio.timeout(30):
        while not sampler._stacked:
            await asyncio.sleep(0.001)
    await running
    assert {} == sampler._stacked


async def test_same_seed_same_picture(sd1: Any) -> None:
    """The same job gives the same bytes; another seed, prompt, negative prompt or CFG scale gives others."""
    first = (await sd1.picture(seed=7)).tobytes()
    assert first == (await sd1.picture(seed=7)).tobytes()
    for change in ({"seed": 8}, {"prompt": "a cat"}, {"negative_prompt": "blue"}, {"cfg_scale": 5.0}):
        assert first != (await sd1.picture(**({"seed": 7} | change))).tobytes()


@pytest.mark.parametrize(("width", "height"), [(33, 47), (100, 64), (2, 1)])
async def test_any_size_is_met(sd1: Any, width: int, height: int) -> None:
    """The picture has the very size that was asked for, cut from the middle of what latents cover."""
    assert (height, width, 3) == (await sd1.picture(width=width, height=height)).shape


async def test_odd_sizes_show_the_middle(models: Any, onnx_rig: Any) -> None:
    """A size that is no multiple is cut out of the middle of the next larger one."""
    await onnx_rig.load(models.starter)
    large = await onnx_rig.picture(width=128, height=64, steps=2)
    small = await onnx_rig.picture(width=123, height=57, steps=2)
    np.testing.assert_array_equal(large[3:60, 2:125], small)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
async def test_company_does_not_matter(models: Any, onnx_rig: Any, levels: Any, family: str) -> None:
    """A picture in company is the picture alone, up to floating-point noise, whatever the others ask for."""
    await onnx_rig.load(models.folder(family))
    asked: list[dict[str, Any]] = [
        {"id": "a", "seed": 1, "steps": 6},
        {"id": "b", "prompt": "a cat", "seed": 2, "sampler": "dpmpp_2m", "scheduler": "karras"},
        {"id": "c", "prompt": "a house", "seed": 3, "cfg_scale": 1.0, "sampler": "euler_ancestral"},
        {"id": "d", "seed": 4, "width": 48},
        {"id": "e", "seed": 5, "prompt": FILLER},
    ]
    alone = [await onnx_rig.picture(**job) for job in asked]
    company = await asyncio.gather(*(onnx_rig.picture(**job) for job in asked))
    assert max(map(levels, alone, company)) <= 2


async def test_jobs_share_forwards(models: Any, make_rig: Any, forwards: Any) -> None:
    """Four jobs that come together take hardly more forward passes than one, and no more rows than the settings allow."""
    async with make_rig(max_batch=3) as rig:
        await rig.load(models.folder("sd1"))
        rows = forwards(rig.backend._sampler.parts.unet)
        await asyncio.gather(*(rig.picture(id=str(n), seed=n, steps=12) for n in range(3)))
        assert len(rows) <= 16
        rows.clear()
        await asyncio.gather(*(rig.picture(id=str(n), seed=n) for n in range(5)))
        assert 6 == max(rows)


async def test_conditioning_stays_where_it_is(sd1: Any) -> None:
    """A batch that goes on as it is has its conditioning put on the device once; a job's end leaves none behind."""
    sampler = sd1.backend._sampler
    put: list[str] = []
    graph = sampler.parts.unet
    original = type(graph).put

    def counted(self: Any, name: str, values: Any) -> Any:
        put.append(name)
        return original(self, name, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(graph), "put", counted)
        await sd1.picture(steps=10)
    assert 10 == put.count("sample")
    assert 1 == put.count("encoder_hidden_states")


async def test_cancelled_job_leaves(sd1: Any) -> None:
    """Cancelling the task of a job takes it out of the batch; the next job gets its picture."""
    task = asyncio.create_task(sd1.picture(steps=1000))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        while sd1.backend._sampler.active:
            await asyncio.sleep(0.01)
    assert (32, 32, 3) == (await sd1.picture()).shape


async def test_nonsense_is_refused(sd1: Any) -> None:
    """Values that make no sense, and a VAE of another sort, are refused at once, and the running ones go on."""
    running = asyncio.create_task(sd1.picture(id="running", steps=20))
    for bad in ({"steps": 0}, {"sampler": "nope"}, {"cfg_scale": float("nan")}, {"seed": -1}):
        with pytest.raises(BackendError) as caught:
            await sd1.picture(**bad)
        assert "invalid_parameter" == caught.value.error_id
    with pytest.raises(BackendError, match="model's own VAE"):
        await sd1.picture(vae_path="other.safetensors")
    assert (32, 32, 3) == (await running).shape


@pytest.mark.parametrize("part", ["unet", "vae"])
async def test_not_a_number_fails_the_job(models: Any, tmp_path: Path, onnx_rig: Any, part: str) -> None:
    """A model that gives no numbers makes a clear error, for UNet and VAE, and the backend works on."""
    broken = models.broken(tmp_path / "broken", part)
    await onnx_rig.load(broken)
    with pytest.raises(BackendError, match="not finite"):
        await onnx_rig.picture()
    await onnx_rig.load(models.folder("sd1"))
    assert (32, 32, 3) == (await onnx_rig.picture()).shape


async def test_half_precision(models: Any, onnx_rig: Any, levels: Any, tmp_path: Path) -> None:
    """A UNet that takes half precision gives the picture of the full one, roughly."""
    path = models.folder("sd1")
    await onnx_rig.load(path)
    expected = await onnx_rig.picture(seed=7)
    await onnx_rig.load(models.half(tmp_path / "half"))
    assert np.float16 == onnx_rig.backend._sampler.parts.unet.inputs["sample"].dtype
    assert levels(expected, await onnx_rig.picture(seed=7)) <= 12


async def test_freed_memory(models: Any, onnx_rig: Any) -> None:
    """Freeing system memory unloads the sessions, and the next job loads them again and gives the same picture."""
    await onnx_rig.load(models.folder("sd1"))
    expected = await onnx_rig.picture()
    assert (await onnx_rig.backend.free_memory(FreeMemory())).freed
    assert onnx_rig.backend._sampler is not None
    assert (await onnx_rig.backend.free_memory(FreeMemory(system_ram=True))).freed
    assert onnx_rig.backend._sampler is None
    np.testing.assert_array_equal(expected, await onnx_rig.picture())


async def test_changed_files_load_again(models: Any, tmp_path: Path, onnx_rig: Any) -> None:
    """A model that was replaced under the same name is read again, and only then."""
    path = tmp_path / "model"
    shutil.copytree(models.folder("sd1"), path)
    await onnx_rig.load(path)
    before = onnx_rig.backend._sampler
    await onnx_rig.load(path)
    assert before is onnx_rig.backend._sampler
    shutil.rmtree(path)
    shutil.copytree(models.folder("sd2"), path)
    await onnx_rig.load(path)
    assert "sd2" == onnx_rig.backend._sampler.parts.family
