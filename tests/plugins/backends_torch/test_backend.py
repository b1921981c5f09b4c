"""The backend's life: settings, loading beside running jobs, memory."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from swarmkernel_backend_api import BackendError, FreeMemory
from swarmkernel_backends_torch.backend import TorchBackend
from swarmkernel_backends_torch.devices import pick_dtype
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_models_api import Loaded, LoadModel, LoadProgress


@pytest.mark.parametrize("device", ["cuda:7", "nonsense", "meta"])
async def test_missing_device_is_told(device: str) -> None:
    """A device that is not there stops the start with its name in the text."""
    with pytest.raises(BackendError, match=device) as caught:
        await TorchBackend(TorchSettings(device=device)).start()
    assert "no_device" == caught.value.error_id


def test_auto_dtype_suits_the_device() -> None:
    """Auto is full precision on a CPU and half on an accelerator; a named dtype is that one everywhere."""
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert (torch.float32, torch.float16) == (pick_dtype("auto", cpu), pick_dtype("auto", cuda))
    assert torch.bfloat16 is pick_dtype("bfloat16", cpu)


@pytest.mark.parametrize(
    ("family", "settings", "tolerance"),
    [
        ("sd1", {"offload": "model"}, 0),
        ("sdxl", {"offload": "model"}, 0),
        ("sd1", {"attention": "sdpa"}, 0),
        ("sd1", {"attention": "sliced"}, 2),
        ("sd2", {"attention": "sliced"}, 2),
        ("sd1", {"dtype": "bfloat16"}, 60),
    ],
)
async def test_settings_keep_the_picture(
    models: Any, make_rig: Any, torch_rig: Any, levels: Any, family: str, settings: Any, tolerance: int
) -> None:
    """Offloading and kinds of attention do not change what is drawn, and half precision only roughly."""
    await torch_rig.load(models.folder(family))
    expected = await torch_rig.picture()
    async with make_rig(device="cpu", **settings) as rig:
        await rig.load(models.folder(family))
        pixels = await rig.picture(previews="offload" in settings)
        weights = next(rig.backend._sampler.parts.unet.parameters())
    assert levels(expected, pixels) <= tolerance
    assert settings.get("dtype", "float32") == str(weights.dtype).removeprefix("torch.")


async def test_loading_tells_its_progress(models: Any, torch_rig: Any) -> None:
    """A load says what it does, with a fraction that rises, and ends with the model's name."""
    *progress, last = await torch_rig.load(models.folder("sd1"))
    assert Loaded("sd1") == last
    assert all(isinstance(reply, LoadProgress) for reply in progress)
    fractions = [reply.fraction for reply in progress]
    assert sorted(fractions) == fractions
    assert all(0 <= fraction <= 1 for fraction in fractions)


async def test_loading_waits_for_running_jobs(models: Any, torch_rig: Any) -> None:
    """A model that is loaded while a job runs lets that job finish first; a job for the old one after it is refused."""
    await torch_rig.load(models.folder("sd1"))
    old = attrs.evolve(torch_rig)
    running = asyncio.create_task(old.picture(id="running", steps=60))
    await asyncio.sleep(0.02)
    load = asyncio.create_task(torch_rig.load(models.folder("sd2")))
    await asyncio.sleep(0.02)
    assert not load.done()
    late = asyncio.create_task(old.picture(id="late"))
    assert (32, 32, 3) == (await running).shape
    await load
    with pytest.raises(BackendError, match="not the loaded one"):
        await late
    assert (32, 32, 3) == (await torch_rig.picture()).shape


async def test_same_model_loads_once(models: Any, torch_rig: Any) -> None:
    """Loads of the model that is there, at the same time or later, keep it; a running job need not end for them."""
    await asyncio.gather(*(torch_rig.load(models.folder("sd1")) for _ in range(3)))
    unet = torch_rig.backend._sampler.parts.unet
    running = asyncio.create_task(torch_rig.picture(steps=500))
    await asyncio.sleep(0.02)
    await torch_rig.load(models.folder("sd1"))
    assert not running.done()
    assert unet is torch_rig.backend._sampler.parts.unet
    running.cancel()


async def test_changed_files_load_again(models: Any, tmp_path: Path, torch_rig: Any) -> None:
    """A model whose file was replaced under the same name, or whose prediction type was stated anew, is read again."""
    path = tmp_path / "model.safetensors"
    shutil.copy(models.file("sd1"), path)
    await torch_rig.load(path)
    first = await torch_rig.picture()
    await torch_rig.load(path, prediction_type="v")
    assert (first != await torch_rig.picture()).any()
    shutil.copy(models.file("sd2"), path)
    await torch_rig.load(path)
    assert "sd2" == torch_rig.backend._sampler.parts.family


async def test_vae_is_read_with_the_model(models: Any, tmp_path: Path, torch_rig: Any) -> None:
    """A load that names a VAE reads it, so that the file may be gone by the time of the job."""
    vae = shutil.copy(models.file("sd1"), tmp_path / "vae.safetensors")
    await torch_rig.load(models.folder("sd1"), vae_path=str(vae))
    Path(vae).unlink()
    assert (32, 32, 3) == (await torch_rig.picture(vae_path=str(vae))).shape


async def test_cancelled_load_leaves_a_usable_backend(models: Any, torch_rig: Any) -> None:
    """A load that its caller gives up does not keep another from being made."""
    task = asyncio.create_task(torch_rig.load(models.folder("sdxl")))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await torch_rig.load(models.folder("sd1"))
    assert (32, 32, 3) == (await torch_rig.picture()).shape


@pytest.mark.parametrize(
    ("error", "is_fatal", "is_full"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), True, False),
        (torch.AcceleratorError("CUDA error: out of memory"), False, True),
        (torch.OutOfMemoryError("CUDA out of memory"), False, True),
        (RuntimeError("x"), False, False),
    ],
)
def test_errors_of_the_device(torch_rig: Any, error: Exception, is_fatal: bool, is_full: bool) -> None:
    """After an error of the device nothing can be computed in the process; running out of memory passes."""
    assert is_fatal == torch_rig.backend.is_fatal(error)
    assert is_full == (getattr(torch_rig.backend.told(error), "error_id", "") == "gpu_oom")


async def test_freed_memory(models: Any, torch_rig: Any) -> None:
    """Freeing system memory unloads the model, and the next job loads it again and gives the same picture; a job of
    another model is refused.
    """
    await torch_rig.load(models.folder("sd1"))
    expected = await torch_rig.picture()
    assert (await torch_rig.backend.free_memory(FreeMemory())).freed
    np.testing.assert_array_equal(expected, await torch_rig.picture())
    assert (await torch_rig.backend.free_memory(FreeMemory(system_ram=True))).freed
    with pytest.raises(BackendError, match="No model is loaded") as caught:
        await torch_rig.picture(model_path="elsewhere")
    assert "model_not_loaded" == caught.value.error_id
    np.testing.assert_array_equal(expected, await torch_rig.picture())


async def test_freeing_spares_running_jobs(models: Any, torch_rig: Any) -> None:
    """Memory that is freed while a job runs is not the job's."""
    await torch_rig.load(models.folder("sd1"))
    running = asyncio.create_task(torch_rig.picture(steps=30))
    await asyncio.sleep(0.02)
    await torch_rig.backend.free_memory(FreeMemory(system_ram=True))
    assert (32, 32, 3) == (await running).shape


async def test_stopping_fails_running_jobs(models: Any) -> None:
    """A backend that stops tells the jobs that still run, instead of leaving them waiting."""
    backend = TorchBackend(TorchSettings(device="cpu"))
    await backend.start()
    path = models.folder("sd1")
    async for _ in backend.load_model(LoadModel("sd1", str(path))):
        pass

    async def run() -> None:
        from swarmkernel_t2i_api import ImageJob

        async for _ in backend.generate(
            ImageJob("job", "red", model_path=str(path), width=32, height=32, steps=999)
        ):
            pass

    task = asyncio.create_task(run())
    await asyncio.sleep(0.05)
    await backend.stop()
    with pytest.raises(BackendError, match="stopping"):
        await task
