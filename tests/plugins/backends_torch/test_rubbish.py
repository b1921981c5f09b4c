"""Models whose files are whole, but say what cannot be, and what is said of those that lack a file."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rigs import Spoil, say

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.loading import load_parts, load_vae
from swarmkernel_models_api import LoadModel


def number_tokens_from_7(folder: Path) -> None:
    path = folder / "tokenizer/tokenizer.json"
    whole = json.loads(path.read_text())
    whole["model"]["vocab"] = {token: number + 7 for token, number in whole["model"]["vocab"].items()}
    for token in whole["added_tokens"]:
        token["id"] += 7
    path.write_text(json.dumps(whole))


def lose_weights(folder: Path) -> None:
    for path in (folder / "unet").glob("*.safetensors"):
        path.unlink()


RUBBISH: dict[str, tuple[Spoil, str]] = {
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "has no scheduler/scheduler_config.json"),
    "no configuration": (lambda f: (f / "unet/config.json").unlink(), "has no unet/config.json"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "has no tokenizer"),
    "no vae": (lambda f: shutil.rmtree(f / "vae"), "has no vae/config.json"),
    "no weights": (lose_weights, "has no weights in unet"),
    "a configuration that is no JSON": (
        lambda f: (f / "unet/config.json").write_text("{"),
        "could not be loaded",
    ),
    "a list as index": (lambda f: (f / "model_index.json").write_text("[1]"), "is not a JSON object"),
    "tokens beyond": (
        number_tokens_from_7,
        "gives numbers up to 49414, of which its text encoder knows 49408",
    ),
    "no padding token": (say("tokenizer/tokenizer_config.json", pad_token=None), "must have a start"),
    "rows of one": (say("tokenizer/tokenizer_config.json", model_max_length=1), "room for one more"),
    "text as scaling": (say("vae/config.json", scaling_factor="x"), "cannot have a scaling_factor of x"),
    "text as betas": (
        say("scheduler/scheduler_config.json", trained_betas=["a", "b"]),
        "of model: trained beta",
    ),
    "a billion timesteps": (
        say("scheduler/scheduler_config.json", num_train_timesteps=10**9),
        "between 2 and 100000",
    ),
}


@pytest.mark.parametrize("what", RUBBISH)
async def test_rubbish_is_refused_when_it_is_loaded(
    models: Any, tmp_path: Path, torch_rig: Any, what: str
) -> None:
    """A folder that says what cannot be, or lacks a file, is refused at once, and where it lies is not told."""
    folder = Path(shutil.copytree(models.folder("sd1"), tmp_path / "model"))
    spoil, reason = RUBBISH[what]
    spoil(folder)
    with pytest.raises(BackendError, match=reason) as caught:
        async for _ in torch_rig.backend.load_model(LoadModel("model", str(folder))):
            pass
    assert "model_corrupt" == caught.value.error_id
    assert str(tmp_path) not in caught.value.text


def test_no_path_of_a_vae_is_told(tmp_path: Path) -> None:
    """What is said of a folder that is no VAE does not say where it lies."""
    (tmp_path / "vae").mkdir()
    with pytest.raises(BackendError, match=r"vae has no config\.json") as caught:
        load_vae(tmp_path / "vae", torch.float32, "sd1")
    assert str(tmp_path) not in caught.value.text


def test_rows_fit_the_encoder(models: Any, tmp_path: Path) -> None:
    """A tokenizer that does not say how long its rows are keeps to what its text encoder takes."""
    folder = Path(shutil.copytree(models.folder("sd1"), tmp_path / "model"))
    file = folder / "tokenizer/tokenizer_config.json"
    said = json.loads(file.read_text())
    del said["model_max_length"]
    file.write_text(json.dumps(said))
    (tower,) = load_parts(folder, torch.float32, None).towers
    assert 77 == tower.tokenizer.model_max_length


async def test_pictures_of_another_size_are_refused(models: Any, torch_rig: Any) -> None:
    """A VAE that gives another size than its configuration says fails the job, instead of giving a picture of that size."""
    await torch_rig.load(models.folder("sd1"))
    vae = torch_rig.backend._sampler.parts.vae
    vae.register_to_config(block_out_channels=(32, 32, 64))
    with pytest.raises(
        BackendError, match=r"The VAE gives pictures of 3 x 16 x 16 where its config.json says 3 x 32 x 32"
    ):
        await torch_rig.picture()
