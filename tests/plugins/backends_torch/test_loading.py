"""Loading: all families, from a folder and from a single file, as diffusers itself has them."""

import socket
from pathlib import Path
from typing import Any

import ldm_layout
import numpy as np
import pytest
import torch
from tiny_models import pipeline, save

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.loading import load_parts, load_vae
from swarmkernel_backends_torch.sampler import TorchSampler
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_diffusion import NoiseSchedule, noise

FAMILIES = ("sd1", "sd2", "sdxl")
PREDICTION = {"sd1": "epsilon", "sd2": "v_prediction", "sdxl": "epsilon"}
CPU = torch.device("cpu")
#: diffusers' schedulers hand NumPy a tensor in the way of NumPy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def sampled(path: Path, job: Any, prediction: str | None = None) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and pixels of a job, straight from the sampler."""
    parts = load_parts(path, torch.float32, prediction)
    sampler = TorchSampler(path, parts, CPU, torch.float32, TorchSettings())
    found = []
    with torch.inference_mode():
        sampler.admit(job)
        while sampler.active:
            found = sampler.engine.step().finished
        (_, _), (_, output) = sampler._finished(job.id, found[0].latents)
    return found[0].latents, output.image


def by_diffusers(oracle: Any, job: Any, **more: Any) -> tuple[torch.Tensor, np.ndarray]:
    """The same job by diffusers' own pipeline, from the same noise along the same sigmas."""
    sigmas = NoiseSchedule.from_config(oracle.scheduler.config).schedule("normal", job.steps)
    arguments = {
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "width": job.width,
        "height": job.height,
        "sigmas": list(sigmas),
        "guidance_scale": job.cfg_scale,
        **more,
    }
    found = []
    for kind in ("latent", "np"):
        start = torch.from_numpy(noise(job.seed, (4, job.height // 2, job.width // 2)))[None]
        found.append(oracle(**arguments, latents=start, output_type=kind).images[0])
    return found[0], (found[1] * 255).round().astype(np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_folder_agrees_with_diffusers(models, job, levels, family: str) -> None:
    """Latents and pixels of a diffusers folder are those of diffusers' own pipeline, up to floating-point noise."""
    asked = job(models.folder(family), "a red circle", negative_prompt="blurry", width=48, seed=3, steps=6)
    latents, pixels = sampled(models.folder(family), asked)
    expected_latents, expected = by_diffusers(models.pipeline(family), asked)
    torch.testing.assert_close(expected_latents, latents, rtol=1e-3, atol=1e-3)
    assert levels(expected, pixels) <= 1
    assert expected.std() > 5


@pytest.mark.parametrize("family", FAMILIES)
def test_file_agrees_with_folder(models, job, family: str) -> None:
    """A single-file checkpoint gives the very pixels of the folder that it was made from."""
    asked = job(models.file(family), "a red circle", negative_prompt="blurry", seed=4)
    _, expected = sampled(models.folder(family), asked)
    _, pixels = sampled(models.file(family), asked, PREDICTION[family])
    np.testing.assert_array_equal(expected, pixels)


@pytest.mark.parametrize(("family", "ours", "theirs"), [("sd1", -2, 1), ("sd2", -3, 1), ("sdxl", -3, 1)])
def test_clip_stop_agrees_with_diffusers(models, job, levels, family: str, ours: int, theirs: int) -> None:
    """Stopping CLIP at an earlier layer is what diffusers calls clip_skip, counted from the layer trained with."""
    # Unguided: diffusers does not skip layers for the negative prompt.
    asked = job(models.folder(family), clip_stop_at_layer=ours, cfg_scale=1.0)
    oracle = models.pipeline(family)
    # Where diffusers still looks for the inner model that transformers 5.6 did away with.
    oracle.text_encoder.__dict__["text_model"] = oracle.text_encoder
    _, expected = by_diffusers(oracle, asked, clip_skip=theirs)
    _, pixels = sampled(models.folder(family), asked)
    assert levels(expected, pixels) <= 1


@pytest.mark.parametrize(
    ("family", "class_id", "stated", "expected"),
    [
        ("sd2", "stable-diffusion-v2-768-v", None, "v_prediction"),
        ("sd2", "stable-diffusion-v2-512", None, "epsilon"),
        ("sd2", "stable-diffusion-v2-768-v", "epsilon", "epsilon"),
        ("sd1", "stable-diffusion-v1", None, "epsilon"),
        ("sd1", "stable-diffusion-v1", "v", "v_prediction"),
        ("sdxl", "stable-diffusion-xl-v1-base", None, "epsilon"),
    ],
)
async def test_prediction_type_of_a_file(models, torch_rig, family, class_id, stated, expected) -> None:
    """What a single file predicts comes from its metadata, else from its class."""
    await torch_rig.load(models.file(family), class_id=class_id, prediction_type=stated)
    assert expected == torch_rig.backend._sampler.engine.prediction


def test_marker_tensors_tell_the_prediction(models, tmp_path) -> None:
    """A file with the marker tensors v_pred and ztsnr predicts v, along a schedule of zero terminal SNR."""
    marks = {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)}
    path = ldm_layout.write(models.tensors("sd1") | marks, tmp_path / "marked.safetensors")
    scheduler = load_parts(path, torch.float32, None).scheduler
    assert ("v_prediction", True) == (scheduler["prediction_type"], scheduler["rescale_betas_zero_snr"])


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_asks_the_network(models, monkeypatch, tmp_path, family: str) -> None:
    """Loading works, and never touches a socket, although nothing told the libraries to stay offline."""
    asked: list[Any] = []

    def refuse(*args: Any, **_more: Any) -> None:
        asked.append(args)
        raise OSError("no network here")

    models.folder(family), models.file(family)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for path in (models.folder(family), models.file(family)):
        assert family == load_parts(path, torch.float32, None).family
    assert [] == asked


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_files(models, job, tmp_path, family: str) -> None:
    """A file of float16 weights loads in float32, and makes the picture of those weights."""
    half = ldm_layout.write(models.tensors(family), tmp_path / "half.safetensors", torch.float16)
    rounded = {
        name: t.half().float() if t.is_floating_point() else t for name, t in models.tensors(family).items()
    }
    full = ldm_layout.write(rounded, tmp_path / "full.safetensors")
    parts = load_parts(half, torch.float32, PREDICTION[family])
    assert {torch.float32} == {p.dtype for module in parts.modules() for p in module.parameters()}
    _, expected = sampled(full, job(full), PREDICTION[family])
    _, pixels = sampled(half, job(half), PREDICTION[family])
    np.testing.assert_array_equal(expected, pixels)


def test_folder_with_a_half_variant_only(models, tmp_path) -> None:
    """A folder whose weights are all of the variant fp16 loads."""
    models.pipeline("sd1").save_pretrained(tmp_path / "half", variant="fp16")
    assert "sd1" == load_parts(tmp_path / "half", torch.float32, None).family


def test_overflowing_vae_stays_in_full_precision(models) -> None:
    """In half precision, a VAE that says that it must be upcast is kept in float32, and the UNet is not."""
    parts = load_parts(models.file("sdxl"), torch.float16, None)
    assert (torch.float16, torch.float32) == (parts.unet.dtype, parts.vae.dtype)
    alone = load_vae(models.folder("sdxl") / "vae", torch.float16, "sdxl")
    assert torch.float32 is alone.dtype


def test_other_inputs_are_refused(tmp_path) -> None:
    """Models whose UNet takes more than latents, such as inpainting ones, are refused with the reason."""
    made = pipeline("sd1", in_channels=9)
    file = ldm_layout.write(ldm_layout.checkpoint(made, "sd1"), tmp_path / "inpaint.safetensors")
    for path in (file, save(made, tmp_path / "inpaint")):
        with pytest.raises(BackendError, match=r"9 channels.*inpainting") as caught:
            load_parts(path, torch.float32, None)
        assert "unsupported_model" == caught.value.error_id


def test_refiner_is_refused(models, tmp_path) -> None:
    """An SDXL refiner is told from a base model and refused, as a file and as a folder."""
    made = models.pipeline("sdxl")
    tensors = ldm_layout.unet_tensors(made.unet) | ldm_layout.vae_tensors(made.vae)
    tensors |= ldm_layout.open_clip_tensors(made.text_encoder_2, "conditioner.embedders.0.model.")
    file = ldm_layout.write(tensors, tmp_path / "refiner.safetensors")
    folder = tmp_path / "refiner"
    folder.mkdir()
    index = (
        '{"text_encoder": [null, null], "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}'
    )
    (folder / "model_index.json").write_text(index)
    for path in (file, folder):
        with pytest.raises(BackendError, match="refiner"):
            load_parts(path, torch.float32, None)
