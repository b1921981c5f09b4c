"""The shipped weights: complete, small, loadable, and they draw what the prompt says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL.Image import Image
from training.checks import look
from training.evaluate import load

from swarmkernel_starter_model.plugin import MODELS, models_folders

# Of diffusers' Euler scheduler under numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MODEL = MODELS / "starter"
PROMPTS = (
    ("red", "circle", "blue"),
    ("yellow", "star", "purple"),
    ("white", "heart", "green"),
    ("black", "triangle", "orange"),
    ("green", "square", "white"),
    ("blue", "diamond", "yellow"),
    ("pink", "hexagon", "black"),
    ("cyan", "cross", "red"),
)


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    """The shipped model through diffusers, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load(MODEL)
    torch.set_num_threads(threads)


def generate(pipe: StableDiffusionPipeline, prompts: list[str], first_seed: int = 0) -> list[Image]:
    """One image each, 20 steps, guidance 4."""
    generators = [torch.Generator().manual_seed(first_seed + i) for i in range(len(prompts))]
    return pipe(prompts, num_inference_steps=20, guidance_scale=4.0, generator=generators).images


def test_the_package_adds_its_folder() -> None:
    """The hook names one read-only folder of Stable Diffusion models, which holds `starter`."""
    [folder] = models_folders()
    assert (MODELS, "Stable-Diffusion", True) == (folder.path, folder.kind, folder.read_only)
    assert (folder.path / "starter/model_index.json").is_file()


def test_the_files_are_complete_small_and_safe() -> None:
    """All parts are there, as text, safetensors and ONNX only, and weigh at most 12 MB in each form."""
    files = {str(path.relative_to(MODEL)): path for path in MODEL.rglob("*") if path.is_file()}
    assert {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.onnx",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/model.onnx",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vae_decoder/config.json",
        "vae_decoder/model.onnx",
        "vae_encoder/config.json",
        "vae_encoder/model.onnx",
    } == set(files)
    assert {".json", ".txt", ".safetensors", ".onnx"} == {Path(name).suffix for name in files}
    for form in (".safetensors", ".onnx"):
        weights = [path for name, path in files.items() if name.endswith(form)]
        assert sum(path.stat().st_size for path in weights) <= 12_000_000


def test_the_configs_say_how_to_use_the_model(pipe: StableDiffusionPipeline) -> None:
    """The native size is 128 pixels, the prediction a velocity, and the special tokens are the vocabulary's last."""
    assert (16, 8) == (pipe.unet.config.sample_size, pipe.vae_scale_factor)
    assert "v_prediction" == pipe.scheduler.config.prediction_type
    assert (1022, 1023) == (pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id)
    assert pipe.tokenizer.eos_token_id == pipe.text_encoder.config.eos_token_id


def test_a_red_circle_on_a_blue_background(pipe: StableDiffusionPipeline) -> None:
    """For each of four seeds the middle is red and the corners are blue, with a margin, and seeds differ."""
    images = generate(pipe, ["a red circle on a blue background"] * 4, first_seed=100)
    for image in images:
        pixels = np.asarray(image).astype(int)
        red, green, blue = pixels[56:72, 56:72].reshape(-1, 3).mean(0)
        assert red > green + 60
        assert red > blue + 60
        for corner in (pixels[:12, :12], pixels[:12, -12:], pixels[-12:, :12], pixels[-12:, -12:]):
            red, green, blue = corner.reshape(-1, 3).mean(0)
            assert blue > red + 60
            assert blue > green + 40
    assert images[0].tobytes() != images[1].tobytes()


def test_colours_and_shapes_follow_the_prompt(pipe: StableDiffusionPipeline) -> None:
    """Of eight prompts, at most one misses a colour and at most two a shape (chance would miss about seven)."""
    images = generate(
        pipe, [f"a {color} {shape} on a {background} background" for color, shape, background in PROMPTS]
    )
    seen = [look(image) for image in images]
    found = [(one.foreground, one.shape, one.background) for one in seen]
    wrong = [
        [a != b for a, b in zip(asked, got, strict=True)] for asked, got in zip(PROMPTS, found, strict=True)
    ]
    assert sum(foreground or background for foreground, _, background in wrong) <= 1, found
    assert sum(shape for _, shape, _ in wrong) <= 2, found


def test_the_prompt_decides(pipe: StableDiffusionPipeline) -> None:
    """With one seed, swapping the two colours of the prompt swaps them in the image."""
    prompts = ["a green square on a pink background", "a pink circle on a green background"]
    images = [generate(pipe, [prompt], first_seed=7)[0] for prompt in prompts]
    assert ["pink", "green"] == [look(image).background for image in images]
    assert ["green", "pink"] == [look(image).foreground for image in images]
