"""Loading a model's parts from a diffusers folder or a single safetensors file, without the network."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.checkpoint import (
    SCALING_FACTORS,
    Checkpoint,
    check_safetensors,
    describe,
    read_shapes,
    vae_config,
)
from swarmkernel_backends_torch.tokenizer import clip_tokenizer


@attrs.define(eq=False)
class TextTower:
    """One text encoder and its tokenizer."""

    tokenizer: Any
    encoder: Any


@attrs.define(eq=False)
class Parts:
    """
    A loaded model.

    *family* is sd1, sd2 or sdxl; *scheduler* is a diffusers scheduler configuration; *scale* is the number of pixels
    per latent in each direction.
    """

    family: str
    unet: Any
    vae: Any
    towers: list[TextTower]
    scheduler: dict[str, Any]

    @property
    def scale(self) -> int:
        """Pixels per latent, in each direction."""
        return scale_of(self.vae)

    def modules(self) -> Iterable[Any]:
        """All networks."""
        return [self.unet, self.vae, *(tower.encoder for tower in self.towers)]


def scale_of(vae: Any) -> int:
    """Pixels per latent of a VAE, in each direction: 2 per level but the first."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def load_parts(path: Path, dtype: torch.dtype, prediction: str | None) -> Parts:
    """
    Load a model into system memory.

    Args:
        path: a diffusers folder (with ``model_index.json``) or a safetensors file.
        dtype: of the networks' weights.
        prediction: ``epsilon`` or ``v_prediction`` where the model itself does not say.

    Raises BackendError with what is wrong for files that are missing, unsafe, damaged or of another architecture.
    """
    if not path.exists():
        raise BackendError(f"{path.name} is not there any more.", "model_missing")
    try:
        parts = _from_folder(path, dtype) if path.is_dir() else _from_file(path, dtype, prediction)
    except BackendError:
        raise
    except Exception as exc:
        raise BackendError(f"{path.name} could not be loaded: {exc}", "model_corrupt") from exc
    for module in parts.modules():
        module.eval().requires_grad_(False)
    if parts.vae.config.force_upcast:  # SDXL's overflows in half precision
        parts.vae.to(torch.float32)
    return parts


def _from_folder(path: Path, dtype: torch.dtype) -> Parts:
    _refuse_unsafe(path)
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    family = "sdxl" if "text_encoder_2" in index else "sd1"
    unet = UNet2DConditionModel.from_pretrained(path, subfolder="unet", torch_dtype=dtype, **options)
    vae = AutoencoderKL.from_pretrained(path, subfolder="vae", torch_dtype=dtype, **options)
    kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    towers = [
        TextTower(
            CLIPTokenizer.from_pretrained(
                path / name.replace("text_encoder", "tokenizer"), local_files_only=True
            ),
            kind.from_pretrained(path, subfolder=name, dtype=dtype, **options),
        )
        for name, kind in kinds.items()
        if index.get(name)
    ]
    scheduler = json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    if family == "sd1" and unet.config.use_linear_projection:
        family = "sd2"
    return Parts(family, unet, vae, towers, scheduler)


def _refuse_unsafe(path: Path) -> None:
    """Of a folder, each network must have safetensors weights, and nothing may be code."""
    for name in ("unet", "vae", "text_encoder"):
        weights = list((path / name).glob("*.safetensors"))
        if not weights and any((path / name).glob("*.bin")):
            raise BackendError(
                f"{path.name}/{name} has its weights as a pickle file only, which can run code when it is loaded; "
                "convert it to safetensors.",
                "unsafe_model",
            )
        for file in weights:
            check_safetensors(file)
    if any(path.rglob("*.py")):
        raise BackendError(f"{path.name} contains Python code; remove it to load the model.", "unsafe_model")


def _from_file(path: Path, dtype: torch.dtype, prediction: str | None) -> Parts:
    check_safetensors(path)
    checkpoint = describe(read_shapes(path), prediction)
    pipeline = StableDiffusionXLPipeline if checkpoint.family == "sdxl" else StableDiffusionPipeline
    with tempfile.TemporaryDirectory(prefix="swarmkernel-") as folder:
        _write_configs(Path(folder), checkpoint, pipeline.__name__)
        found = pipeline.from_single_file(
            str(path), config=folder, torch_dtype=dtype, local_files_only=True, **_without_extras(checkpoint)
        )
    names = ["", "_2"] if checkpoint.family == "sdxl" else [""]
    towers = [TextTower(_tokenizer(checkpoint, n), getattr(found, f"text_encoder{n}")) for n in names]
    return Parts(checkpoint.family, found.unet, found.vae, towers, checkpoint.configs["scheduler"])


def _without_extras(checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint.family == "sdxl":
        return {"tokenizer": _tokenizer(checkpoint, ""), "tokenizer_2": _tokenizer(checkpoint, "_2")}
    return {"tokenizer": _tokenizer(checkpoint, ""), "safety_checker": None, "feature_extractor": None}


def _tokenizer(checkpoint: Checkpoint, suffix: str) -> Any:
    """CLIP-L pads with its end token; OpenCLIP's towers with token 0."""
    is_open_clip = checkpoint.family == "sd2" or suffix == "_2"
    return clip_tokenizer("!") if is_open_clip else clip_tokenizer()


def _write_configs(folder: Path, checkpoint: Checkpoint, pipeline: str) -> None:
    """What ``from_single_file`` reads in place of a download."""
    index: dict[str, Any] = {"_class_name": pipeline, "scheduler": ["diffusers", "DDIMScheduler"]}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index |= {
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "text_encoder": ["transformers", "CLIPTextModel"],
    }
    if checkpoint.family == "sdxl":
        index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    (folder / "model_index.json").write_text(json.dumps(index))
    for name, config in checkpoint.configs.items():
        (folder / name).mkdir()
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (folder / name / file).write_text(json.dumps(config))


def load_vae(path: Path, dtype: torch.dtype, family: str) -> Any:
    """A VAE of its own, from a diffusers folder or a safetensors file; BackendError if it is neither."""
    try:
        vae = _vae(path, dtype, family)
    except BackendError:
        raise
    except Exception as exc:
        raise BackendError(f"The VAE {path.name} could not be loaded: {exc}", "model_corrupt") from exc
    return vae.eval().requires_grad_(False)


def _vae(path: Path, dtype: torch.dtype, family: str) -> Any:
    if path.is_dir():
        return AutoencoderKL.from_pretrained(
            path, torch_dtype=dtype, local_files_only=True, use_safetensors=True
        )
    check_safetensors(path)
    shapes = read_shapes(path)
    prefix = "first_stage_model." if any(k.startswith("first_stage_model.") for k in shapes) else ""
    config = vae_config(shapes, prefix, SCALING_FACTORS[family])
    with tempfile.TemporaryDirectory(prefix="swarmkernel-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        return AutoencoderKL.from_single_file(
            str(path), config=folder, torch_dtype=dtype, local_files_only=True
        )
