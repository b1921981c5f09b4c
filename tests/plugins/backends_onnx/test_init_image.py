"""Starting from a picture, whole or masked: the same pictures as torch makes, alone and in company."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rigs import file_of, half_white, stripes

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.plugin import ONNX
from swarmkernel_t2i_api import Preview

BLUE = "a blue square on a white background"
IMAGE = file_of(stripes())
MASKED = {"init_image": IMAGE, "mask_image": file_of(half_white())}


@pytest.mark.parametrize(
    ("family", "job"),
    [
        ("sd1", {"init_creativity": 0.5}),
        ("sd1", {"init_creativity": 0.0, "width": 33, "height": 47}),
        ("sd2", {"sampler": "heun", "mask_image": file_of(half_white((50, 10))), "mask_blur": 3}),
        ("sdxl", {"init_creativity": 1.0, "mask_image": file_of(half_white()), "sampler": "dpmpp_2m"}),
    ],
)
async def test_pictures_are_torchs(
    models: Any, onnx_rig: Any, torch_rig: Any, levels: Any, family: str, job: dict[str, Any]
) -> None:
    """Both engines make the same picture of the same init image and mask, up to 2 levels of 255."""
    job = {"seed": 7, "steps": 6, "init_image": IMAGE} | job
    pictures = []
    for rig in (onnx_rig, torch_rig):
        await rig.load(models.folder(family))
        pictures.append(await rig.picture(**job))
    assert levels(*pictures) <= 2
    assert levels(pictures[0], await onnx_rig.picture(**job | {"seed": 8})) > 5


async def test_the_starter_model(models: Any, onnx_rig: Any, torch_rig: Any, levels: Any) -> None:
    """The model that ships with the server begins with a picture of its own, through both engines alike."""
    job = {"width": 128, "height": 128, "steps": 20, "seed": 2, "previews": True}
    await onnx_rig.load(models.starter)
    *_, first = await onnx_rig.run("a red circle on a blue background", **job)
    job |= {"init_image": file_of(Image.fromarray(first.image)), "init_creativity": 0.8}
    job |= {"mask_image": file_of(half_white((128, 128))), "mask_blur": 8}
    *events, made = await onnx_rig.run("a green square on a yellow background", **job)
    assert any(isinstance(event, Preview) for event in events)
    np.testing.assert_array_equal(first.image[:, :50], made.image[:, :50])
    assert np.abs(first.image.astype(int) - made.image)[:, 78:].mean() > 20
    await torch_rig.load(models.starter)
    assert levels(made.image, await torch_rig.picture("a green square on a yellow background", **job)) <= 2


@pytest.fixture(name="sd1")
async def _sd1(models: Any, onnx_rig: Any) -> Any:
    await onnx_rig.load(models.folder("sd1"))
    return onnx_rig


async def test_it_is_announced() -> None:
    """Clients and the queue are told that the engine takes pictures and masks."""
    assert {"init_image", "mask_image"} <= set(ONNX.features)


async def test_a_picture_counts(sd1: Any) -> None:
    """The less creativity, the nearer the made picture is to the init image; with 1 that counts for nothing."""
    plain = await sd1.picture(steps=8)
    np.testing.assert_array_equal(plain, await sd1.picture(steps=8, init_image=IMAGE, init_creativity=1.0))
    decoded = await sd1.picture(steps=1000, init_image=IMAGE, init_creativity=0.0)
    near, far = [
        await sd1.picture(steps=10, init_image=IMAGE, init_creativity=creativity) for creativity in (0.1, 0.9)
    ]
    distance = [np.abs(decoded.astype(int) - made).mean() for made in (near, far)]
    assert distance[0] < distance[1] / 2


async def test_company_does_not_matter(sd1: Any, levels: Any) -> None:
    """Pictures that start from others, masked or not, are the same in company, up to floating-point noise."""
    asked: list[dict[str, Any]] = [
        {"id": "a", "seed": 1, "steps": 6},
        {"id": "b", "seed": 2, "steps": 7, "init_image": IMAGE, "init_creativity": 0.5},
        {"id": "c", "seed": 3, "steps": 8, **MASKED, "mask_blur": 4, "sampler": "euler_ancestral"},
        {"id": "d", "seed": 4, "steps": 8, **MASKED, "init_creativity": 1.0, "cfg_scale": 1.0},
    ]
    alone = [await sd1.picture(**job) for job in asked]
    company = await asyncio.gather(*(sd1.picture(**job) for job in asked))
    assert max(map(levels, alone, company)) <= 2


async def test_a_folder_without_encoder(models: Any, tmp_path: Path, onnx_rig: Any) -> None:
    """A model without a vae_encoder says so to who starts from a picture, and draws for everybody else."""
    bare = shutil.copytree(models.folder("sd1"), tmp_path / "bare")
    shutil.rmtree(bare / "vae_encoder")
    await onnx_rig.load(bare)
    with pytest.raises(BackendError, match="has no vae_encoder") as caught:
        await onnx_rig.picture(init_image=IMAGE)
    assert "unsupported_model" == caught.value.error_id
    assert (32, 32, 3) == (await onnx_rig.picture()).shape


async def test_damaged_files(sd1: Any) -> None:
    """A file that cannot be decoded fails its job alone, with a clear error."""
    for job, said in (({"init_image": b"GIF89a"}, "init"), ({**MASKED, "mask_image": b""}, "mask")):
        with pytest.raises(BackendError, match=f"The {said} image is damaged") as caught:
            await sd1.picture(**job)
        assert "invalid_parameter" == caught.value.error_id
    assert (32, 32, 3) == (await sd1.picture()).shape
