"""What cannot or must not be loaded: a clear refusal, and a backend that works on."""

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ldm_layout
import pytest
import torch
from safetensors.torch import load_file, save_file

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.loading import load_parts, load_vae


class Payload:
    """An object whose pickle makes a file when it is read: harmless, and not to be missed."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def pickled(canary: Path, how: str) -> bytes:
    data = {"state_dict": {"weight": torch.zeros(1)}, "payload": Payload(canary)}
    if how != "torch":
        return pickle.dumps(Payload(canary), protocol=int(how))
    file = io.BytesIO()
    torch.save(data, file)
    return file.getvalue()


@pytest.mark.parametrize("how", ["torch", "0", "2", "3", "4", "5"])
@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors", "model.pt", "model"])
async def test_pickles_are_refused(tmp_path: Path, torch_rig: Any, how: str, name: str) -> None:
    """A pickle is refused by what is in it, whatever its name, and nothing in it runs."""
    canary = tmp_path / "canary"
    (tmp_path / name).write_bytes(pickled(canary, how))
    for load in (torch_rig.load, lambda path: load_vae(path, torch.float32, "sd1")):
        with pytest.raises(BackendError) as caught:
            await load(tmp_path / name)
        assert caught.value.error_id in {"unsafe_model", "model_corrupt"}
        assert name in caught.value.text
    assert how == "0" or "pickle" in caught.value.text
    assert not canary.exists()


def test_the_payload_would_run(tmp_path: Path) -> None:
    """The canary of these tests is one: who does unpickle it makes the file."""
    pickle.loads(pickled(tmp_path / "canary", "4"))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
async def test_pickles_in_folders_are_refused(models: Any, tmp_path: Path, torch_rig: Any, part: str) -> None:
    """A folder with a network as a pickle only, or as a pickle that calls itself safetensors, is refused and not run."""
    canary = tmp_path / "canary"
    for disguised in (False, True):
        folder = shutil.copytree(models.folder("sdxl"), tmp_path / f"disguised-{disguised}")
        (weights,) = (folder / part).glob("*.safetensors")
        weights.unlink()
        target = weights if disguised else weights.with_suffix(".bin")
        target.write_bytes(pickled(canary, "torch"))
        with pytest.raises(BackendError, match="pickle") as caught:
            await torch_rig.load(folder)
        assert "unsafe_model" == caught.value.error_id
    assert not canary.exists()


async def test_code_in_folders_is_refused(models: Any, tmp_path: Path, torch_rig: Any) -> None:
    """A folder that brings Python code is refused, and the code does not run."""
    folder = shutil.copytree(models.folder("sd1"), tmp_path / "model")
    canary = tmp_path / "canary"
    (folder / "unet" / "custom.py").write_text(f"open({str(canary)!r}, 'w')")
    with pytest.raises(BackendError, match="Python code"):
        await torch_rig.load(folder)
    assert not canary.exists()


def cut(models: Any, folder: Path) -> Path:
    data = models.file("sd1").read_bytes()
    path = folder / "cut.safetensors"
    path.write_bytes(data[: len(data) // 2])
    return path


def empty(_models: Any, folder: Path) -> Path:
    path = folder / "empty.safetensors"
    path.touch()
    return path


def noise(_models: Any, folder: Path) -> Path:
    path = folder / "noise.safetensors"
    path.write_bytes(bytes(range(256)) * 64)
    return path


def not_json(_models: Any, folder: Path) -> Path:
    path = folder / "not-json.safetensors"
    path.write_bytes((32).to_bytes(8, "little") + b"{" * 64)
    return path


def archive(_models: Any, folder: Path) -> Path:
    path = folder / "archive.safetensors"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"")
    return path


def without(part: str) -> Callable[[Any, Path], Path]:
    def make(models: Any, folder: Path) -> Path:
        tensors = {name: t for name, t in models.tensors("sd1").items() if part not in name}
        return ldm_layout.write(tensors, folder / "lacking.safetensors")

    return make


def wrong_shape(models: Any, folder: Path) -> Path:
    name = "model.diffusion_model.time_embed.0.weight"
    return ldm_layout.write(models.tensors("sd1") | {name: torch.zeros(3, 3)}, folder / "shape.safetensors")


def lora(_models: Any, folder: Path) -> Path:
    save_file({"lora_unet_down.weight": torch.zeros(2, 2)}, folder / "lora.safetensors")
    return folder / "lora.safetensors"


def gone(_models: Any, folder: Path) -> Path:
    return folder / "gone.safetensors"


def no_index(_models: Any, folder: Path) -> Path:
    (folder / "none").mkdir()
    return folder / "none"


def changed_folder(change: Callable[[Path], object]) -> Callable[[Any, Path], Path]:
    def make(models: Any, folder: Path) -> Path:
        copy = shutil.copytree(models.folder("sd1"), folder / "model")
        change(copy)
        return Path(copy)

    return make


def lose_a_tensor(folder: Path) -> None:
    (path,) = (folder / "unet").glob("*.safetensors")
    tensors = load_file(path)
    del tensors["conv_in.bias"]
    save_file(tensors, path, {"format": "pt"})


def cut_a_file(folder: Path) -> None:
    (path,) = (folder / "text_encoder").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])


def flux(folder: Path) -> None:
    index = '{"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}'
    (folder / "model_index.json").write_text(index)


BROKEN = {
    "cut": (cut, "cut"),
    "empty": (empty, "not a whole safetensors file"),
    "noise": (noise, "not a whole safetensors file"),
    "not json": (not_json, "could not be loaded"),
    "archive": (archive, "pickle"),
    "no unet": (without("diffusion_model"), "not a whole Stable Diffusion"),
    "no vae": (without("first_stage_model"), "no tensor 'first_stage_model"),
    "no text encoder": (without("cond_stage_model"), "not a whole Stable Diffusion"),
    "a unet tensor less": (without("time_embed.2.bias"), "UNet2DConditionModel is not whole"),
    "a vae tensor less": (without("first_stage_model.quant_conv"), "AutoencoderKL is not whole"),
    "a text tensor less": (without("final_layer_norm"), "text encoder is not whole"),
    "wrong shape": (wrong_shape, "shape"),
    "lora": (lora, "not a whole Stable Diffusion"),
    "gone": (gone, "not there any more"),
    "no index": (no_index, "no model_index.json"),
    "folder without unet": (changed_folder(lambda f: shutil.rmtree(f / "unet")), "has no unet/config.json"),
    "folder without scheduler": (
        changed_folder(lambda f: shutil.rmtree(f / "scheduler")),
        "has no scheduler/",
    ),
    "folder with a tensor less": (changed_folder(lose_a_tensor), "unet is not whole"),
    "folder with a cut file": (changed_folder(cut_a_file), "could not be loaded"),
    "folder of another family": (changed_folder(flux), "is not Stable Diffusion"),
    "index that is no json": (
        changed_folder(lambda f: (f / "model_index.json").write_text("{")),
        "could not be loaded",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_models_are_refused(models: Any, tmp_path: Path, what: str) -> None:
    """A model that is not whole or of another kind is refused with the reason in the text."""
    make, reason = BROKEN[what]
    with pytest.raises(BackendError, match=reason) as caught:
        load_parts(make(models, tmp_path), torch.float32, None)
    assert caught.value.error_id in {"model_corrupt", "model_missing", "unsupported_model", "unsafe_model"}
    assert len(caught.value.text) < 600


async def test_backend_survives_refusals(models: Any, tmp_path: Path, torch_rig: Any) -> None:
    """After a refused model, a job for it has the same error, and another model loads and works."""
    broken = cut(models, tmp_path)
    for use in (torch_rig.load(broken), torch_rig.picture()):
        with pytest.raises(BackendError, match="could not be loaded") as caught:
            await use
        assert "model_corrupt" == caught.value.error_id
    await torch_rig.load(models.file("sd1"))
    assert (32, 32, 3) == (await torch_rig.picture()).shape


@pytest.mark.parametrize(
    ("make", "reason"),
    [(lora, "no VAE of this family"), (gone, "not there any more"), (cut, "could not be loaded")],
)
async def test_broken_vaes_are_refused(
    models: Any, tmp_path: Path, torch_rig: Any, make: Any, reason: str
) -> None:
    """A job with a VAE that is none fails with the reason, at loading as well, and the model works on without it."""
    path = models.folder("sd1")
    broken = make(models, tmp_path)
    with pytest.raises(BackendError, match=reason):
        await torch_rig.load(path, vae_path=str(broken))
    with pytest.raises(BackendError, match=reason):
        await torch_rig.picture(vae_path=str(broken))
    assert (32, 32, 3) == (await torch_rig.picture()).shape


async def test_vae_of_another_family_is_refused(models: Any, tmp_path: Path, torch_rig: Any) -> None:
    """A VAE with another number of latent channels than the UNet's is refused with both numbers."""
    from tiny_models import vae

    vae("sd1", latent_channels=16).save_pretrained(tmp_path / "vae")
    await torch_rig.load(models.folder("sd1"))
    with pytest.raises(BackendError, match="16 latent channels; this model needs 4"):
        await torch_rig.picture(vae_path=str(tmp_path / "vae"))
