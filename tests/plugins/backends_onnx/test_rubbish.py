"""Folders whose files are whole, but say what cannot be."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from rigs import Spoil, say

from swarmkernel_backend_api import BackendError
from swarmkernel_models_api import LoadModel


def number_tokens_from(start: int) -> Spoil:
    """Have a tokenizer give numbers that its text encoder does not have."""

    def spoil(folder: Path) -> None:
        path = folder / "tokenizer/tokenizer.json"
        whole = json.loads(path.read_text())
        whole["model"]["vocab"] = {token: number + start for token, number in whole["model"]["vocab"].items()}
        path.write_text(json.dumps(whole))

    return spoil


def graph(folder: Path, part: str, change: Callable[[onnx.GraphProto], object]) -> None:
    file = folder / part / "model.onnx"
    model = onnx.load(file)
    change(model.graph)
    onnx.save(model, file)


def rename_input(found: onnx.GraphProto) -> None:
    found.input[0].name = "ids"
    for node in found.node:
        node.input[:] = ["ids" if name == "input_ids" else name for name in node.input]


def fix_sizes(found: onnx.GraphProto) -> None:
    for axis, size in enumerate((2, 4, 64, 64)):
        found.input[0].type.tensor_type.shape.dim[axis].dim_value = size


def give_text(found: onnx.GraphProto) -> None:
    found.node.append(helper.make_node("Cast", ["out_sample"], ["words"], to=TensorProto.STRING))
    found.output.append(helper.make_tensor_value_info("words", TensorProto.STRING, None))


def take_more(found: onnx.GraphProto) -> None:
    found.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


SCHEDULER = "scheduler/scheduler_config.json"
VAE, UNET, TEXT = "vae_decoder/config.json", "unet/config.json", "text_encoder/config.json"
RUBBISH: dict[str, tuple[Spoil, str]] = {
    "text as betas": (
        say(SCHEDULER, trained_betas=["a", "b"]),
        "scheduler_config.json of model: trained beta",
    ),
    "a billion timesteps": (say(SCHEDULER, num_train_timesteps=10**9), "between 2 and 100000"),
    "a list as prediction": (say(SCHEDULER, prediction_type=["epsilon"]), "unknown prediction type"),
    "text as scaling": (say(VAE, scaling_factor="x"), "vae_decoder/config.json says scaling_factor x"),
    "no number as scaling": (say(VAE, scaling_factor=float("nan")), "says scaling_factor nan"),
    "a number as blocks": (say(VAE, block_out_channels=4), "a list of 1 to 8 entries"),
    "many blocks": (say(VAE, block_out_channels=[1] * 9), "a list of 1 to 8 entries"),
    "half a channel": (say(UNET, in_channels=4.5), "a whole number"),
    "text as channels": (say(UNET, in_channels="x"), "a number from 1 to 64"),
    "a list as length": (say(TEXT, max_position_embeddings=[77]), "a number from 3 to 1024"),
    "rows of a million": (say(TEXT, max_position_embeddings=10**6), "a number from 3 to 1024"),
    "rows of one": (say(TEXT, max_position_embeddings=1), "a number from 3 to 1024"),
    "text as eps": (say(TEXT, layer_norm_eps="x"), "a number from 0 to 1"),
    "tokens beyond": (
        number_tokens_from(7),
        "gives numbers up to 49414, of which its text_encoder knows 49408",
    ),
    "a list as a configuration": (lambda f: (f / UNET).write_text("[1]"), "is not a JSON object"),
    "tower without input_ids": (lambda f: graph(f, "text_encoder", rename_input), "must take input_ids"),
    "shorter rows than the graph's": (
        say(TEXT, max_position_embeddings=50),
        "takes input_ids as any x 77 only; here it must take any x 50",
    ),
    "unet of one size": (lambda f: graph(f, "unet", fix_sizes), "takes sample as 2 x 4 x 64 x 64 only"),
    "unet of text": (lambda f: graph(f, "unet", give_text), r"gives words as tensor\(string\)"),
}


@pytest.mark.parametrize("what", RUBBISH)
async def test_rubbish_is_refused_when_it_is_loaded(
    models: Any, tmp_path: Path, onnx_rig: Any, what: str
) -> None:
    """A folder that says what cannot be is refused at once, with the file's name, and not by a library's words."""
    folder = Path(shutil.copytree(models.folder("sd1"), tmp_path / "model"))
    spoil, reason = RUBBISH[what]
    spoil(folder)
    with pytest.raises(BackendError, match=reason) as caught:
        async for _ in onnx_rig.backend.load_model(LoadModel("model", str(folder))):
            pass
    assert caught.value.error_id in {"model_corrupt", "unsupported_model"}
    assert str(tmp_path) not in caught.value.text


@pytest.mark.parametrize("blocks", [1, 3])
async def test_pictures_of_another_size_are_refused(
    models: Any, tmp_path: Path, onnx_rig: Any, blocks: int
) -> None:
    """A VAE that gives another size than its configuration says fails the job, instead of giving a picture of that size."""
    folder = Path(shutil.copytree(models.folder("sd1"), tmp_path / "model"))
    say(VAE, block_out_channels=[1] * blocks)(folder)
    await onnx_rig.load(folder)
    with pytest.raises(BackendError, match=r"The VAE gives pictures of \d+ x \d+") as caught:
        await onnx_rig.picture()
    assert "model_corrupt" == caught.value.error_id


async def test_an_encoder_of_another_sort(models: Any, tmp_path: Path, onnx_rig: Any) -> None:
    """A vae_encoder that takes more than pictures is refused where it is needed, and pictures come without previews."""
    folder = Path(shutil.copytree(models.folder("sd1"), tmp_path / "model"))
    graph(folder, "vae_encoder", take_more)
    await onnx_rig.load(folder)
    assert (32, 32, 3) == (await onnx_rig.picture(previews=True)).shape
    with pytest.raises(BackendError, match="must take pictures and nothing else"):
        onnx_rig.backend._sampler._encoder()


async def test_what_sdxl_needs(models: Any, tmp_path: Path, onnx_rig: Any) -> None:
    """Of SDXL, a second tower that does not give its projection is refused when the model is loaded."""
    folder = Path(shutil.copytree(models.folder("sdxl"), tmp_path / "model"))

    def drop(found: onnx.GraphProto) -> None:
        kept = [output for output in found.output if output.name != "text_embeds"]
        del found.output[:]
        found.output.extend(kept)

    graph(folder, "text_encoder_2", drop)
    with pytest.raises(BackendError, match="text_encoder_2 gives no text_embeds"):
        await onnx_rig.load(folder)
