"""Loading a model's parts from a diffusers folder or a single safetensors file, without the network."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.checkpoint import (
    SCALING_FACTORS,
    TOWER_PREFIXES,
    VAE,
    Checkpoint,
    check_safetensors,
    describe,
    read_shapes,
    refuse_refiner,
    vae_config,
)
from swarmkernel_backends_torch.checks import (
    check_scaling,
    fit_tokenizer,
    read_object,
    refuse_incomplete,
    refuse_other_inputs,
    refuse_unsafe,
)
from swarmkernel_backends_torch.tokenizer import clip_tokenizer
from swarmkernel_backends_torch.towers import build_tower, clip_tensors, open_clip_tensors, refuse_missing

#: The class of each text encoder, by its name in a diffusers folder.
TOWERS: Mapping[str, Any] = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
_SCHEDULER = "scheduler/scheduler_config.json"


@attrs.define(eq=False)
class TextTower:
    """One text encoder and its tokenizer."""

    tokenizer: Any
    encoder: Any


@attrs.define(eq=False)
class Parts:
    """
    A loaded model.

    *family* is sd1, sd2 or sdxl; *scheduler* is a diffusers scheduler configuration.
    """

    family: str
    unet: Any
    vae: Any
    towers: list[TextTower]
    scheduler: dict[str, Any]

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
    with _said(path.name, path):
        parts = _from_folder(path, dtype) if path.is_dir() else _from_file(path, dtype, prediction)
    refuse_other_inputs(parts)
    for tower in parts.towers:
        fit_tokenizer(tower)
    check_scaling(parts.vae)
    for module in parts.modules():
        _prepare(module)
    return parts


def load_vae(path: Path, dtype: torch.dtype, family: str) -> Any:
    """A VAE of its own, from a diffusers folder or a safetensors file; BackendError if it is neither."""
    if not path.exists():
        raise BackendError(f"The VAE {path.name} is not there any more.", "model_missing")
    with _said(f"The VAE {path.name}", path):
        vae = _vae(path, dtype, family)
        check_scaling(vae)
        return _prepare(vae)


@contextmanager
def _said(what: str, path: Path) -> Iterator[None]:
    """Errors of the libraries, in words that say which file is at fault, but not where the server keeps it."""
    try:
        yield
    except (BackendError, torch.OutOfMemoryError):
        raise
    except Exception as exc:
        said = str(exc).replace(str(path.resolve()), path.name).replace(str(path), path.name)
        raise BackendError(f"{what} could not be loaded: {said[:400]}", "model_corrupt") from exc


def _prepare(module: Any) -> Any:
    if getattr(module.config, "force_upcast", False) and module.dtype is torch.float16:
        module = module.to(torch.float32)  # a VAE, SDXL's for one, that overflows in half precision
    return module.eval().requires_grad_(False)


def _from_folder(path: Path, dtype: torch.dtype) -> Parts:
    names = _components(path)
    tokenizers = [name.replace("text_encoder", "tokenizer") for name in names]
    networks = ["unet", "vae", *names]
    refuse_incomplete(path, [*(f"{name}/config.json" for name in networks), *tokenizers, _SCHEDULER])
    refuse_unsafe(path, networks)
    towers = [
        TextTower(
            CLIPTokenizer.from_pretrained(path / tokenizer, local_files_only=True),
            _pretrained(TOWERS[name], path, name, dtype=dtype),
        )
        for name, tokenizer in zip(names, tokenizers, strict=True)
    ]
    unet = _pretrained(UNet2DConditionModel, path, "unet", torch_dtype=dtype)
    vae = _pretrained(AutoencoderKL, path, "vae", torch_dtype=dtype)
    scheduler = read_object(path / _SCHEDULER)
    family = "sdxl" if len(names) > 1 else "sd2" if unet.config.use_linear_projection else "sd1"
    return Parts(family, unet, vae, towers, scheduler)


def _components(path: Path) -> list[str]:
    """The text encoders that a diffusers folder has; BackendError if it is not of a known family."""
    index = path / "model_index.json"
    if not index.is_file():
        raise BackendError(
            f"{path.name} has no model_index.json, so it is no diffusers folder.", "unsupported_model"
        )
    named = read_object(index)
    kinds = {name: value[1] for name, value in named.items() if isinstance(value, list) and len(value) == 2}
    towers = [name for name in TOWERS if kinds.get(name)]
    if towers == ["text_encoder_2"]:
        refuse_refiner()
    wanted = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    wanted |= {name: TOWERS[name].__name__ for name in towers}
    if not towers or any(kinds.get(name) != kind for name, kind in wanted.items()):
        raise BackendError(f"{path.name} is not Stable Diffusion 1.x, 2.x or XL.", "unsupported_model")
    return towers


def _pretrained(kind: Any, path: Path, name: str, **dtype: torch.dtype) -> Any:
    """One network of a diffusers folder, whole; of two sets of weights, the full one."""
    folder = path / name
    plain = any(".fp16." not in file.name for file in folder.glob("*.safetensors"))
    options = {"local_files_only": True, "use_safetensors": True, "variant": None if plain else "fp16"}
    found, info = kind.from_pretrained(folder, output_loading_info=True, **options, **dtype)
    refuse_missing(info["missing_keys"], name)
    return found


def _from_file(path: Path, dtype: torch.dtype, prediction: str | None) -> Parts:
    check_safetensors(path)
    checkpoint = describe(read_shapes(path), prediction)
    tensors = load_file(path)
    return Parts(
        checkpoint.family,
        _single(UNet2DConditionModel, tensors, checkpoint.configs["unet"], dtype),
        _single(AutoencoderKL, tensors, checkpoint.configs["vae"], dtype),
        _towers(checkpoint, tensors, dtype),
        checkpoint.configs["scheduler"],
    )


def _single(kind: Any, tensors: dict[str, torch.Tensor], config: dict[str, Any], dtype: torch.dtype) -> Any:
    """A network out of a checkpoint's tensors; diffusers reads its configuration from a folder or the network."""
    with tempfile.TemporaryDirectory(prefix="swarmkernel-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        try:
            return kind.from_single_file(tensors, config=folder, torch_dtype=dtype, local_files_only=True)
        except NotImplementedError as exc:  # weights that were not there cannot be converted to dtype
            raise BackendError(
                f"Its {kind.__name__} is not whole: tensors are missing.", "model_corrupt"
            ) from exc


def _towers(checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> list[TextTower]:
    found = []
    for name, prefix in TOWER_PREFIXES[checkpoint.family].items():
        config = CLIPTextConfig(**checkpoint.configs[name])
        is_open_clip = prefix.endswith(".model.")
        weights = (
            open_clip_tensors(tensors, prefix, config.num_hidden_layers)
            if is_open_clip
            else clip_tensors(tensors, prefix)
        )
        # CLIP-L pads with its end token, OpenCLIP's towers with token 0.
        tokenizer = clip_tokenizer("!") if is_open_clip else clip_tokenizer()
        found.append(TextTower(tokenizer, build_tower(TOWERS[name], config, weights, dtype)))
    return found


def _vae(path: Path, dtype: torch.dtype, family: str) -> Any:
    if path.is_dir():
        refuse_incomplete(path, ["config.json"])
        refuse_unsafe(path.parent, [path.name])
        return _pretrained(AutoencoderKL, path.parent, path.name, torch_dtype=dtype)
    check_safetensors(path)
    shapes = read_shapes(path)
    prefix = VAE if any(k.startswith(VAE) for k in shapes) else ""
    try:
        config = vae_config(shapes, prefix, SCALING_FACTORS[family])
    except KeyError as exc:
        raise BackendError(
            f"{path.name} is no VAE of this family: it has no tensor {exc}.", "unsupported_model"
        ) from exc
    return _single(AutoencoderKL, load_file(path), config, dtype)
