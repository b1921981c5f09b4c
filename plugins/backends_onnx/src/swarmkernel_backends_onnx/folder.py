"""Loading a model's parts from a diffusers folder of ONNX files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.graph import Graph
from swarmkernel_backends_onnx.providers import Device
from swarmkernel_backends_onnx.tokenizer import LENGTH, ClipTokenizer

INDEX = "model_index.json"
#: What each family's latents are divided by, for folders that do not say.
_SCALING = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
#: What a UNet may take here.
_KNOWN = {"sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"}


@attrs.frozen(eq=False)
class TextTower:
    """One text encoder with its tokenizer and configuration."""

    tokenizer: ClipTokenizer
    graph: Graph
    config: dict[str, Any]


@attrs.frozen(eq=False)
class Vae:
    """The decoder; *scaling* is what latents were multiplied by, *scale* the pixels per latent in each direction."""

    decoder: Graph
    scaling: float
    scale: int
    encoder_folder: Path | None


@attrs.frozen(eq=False)
class Parts:
    """A loaded model. *family* is sd1, sd2 or sdxl; *scheduler* is a diffusers scheduler configuration."""

    family: str
    unet: Graph
    channels: int
    vae: Vae
    towers: tuple[TextTower, ...]
    scheduler: dict[str, Any]


def load_parts(path: Path, device: Device) -> Parts:
    """Load a model; BackendError with what is wrong for one that is missing, damaged, unsafe or of another kind."""
    if not path.exists():
        raise BackendError(f"{path.name} is not there any more.", "model_missing")
    if not (path / INDEX).is_file():
        raise BackendError(
            f"{path.name} has no {INDEX}, so it is no diffusers folder; `swarmkernel export-onnx` makes one.",
            "unsupported_model",
        )
    names = _towers(path)
    scheduler = _read(path / "scheduler" / "scheduler_config.json")
    if not scheduler:
        raise BackendError(f"{path.name} has no scheduler/scheduler_config.json.", "model_corrupt")
    config = _read(path / "unet" / "config.json")
    family = "sdxl" if len(names) > 1 else "sd2" if config.get("use_linear_projection") else "sd1"
    unet = Graph.load(path, "unet", device)
    _refuse_other_inputs(unet, family)
    vae = _vae(path, device, family)
    channels = int(config.get("in_channels") or 4)
    _refuse_other_channels(path, channels)
    return Parts(family, unet, channels, vae, tuple(_tower(path, name, device) for name in names), scheduler)


def _towers(path: Path) -> list[str]:
    """The text encoders that the index names."""
    index = _read(path / INDEX)
    named = {key for key, value in index.items() if isinstance(value, list) and any(value)}
    towers: list[str] = [name for name in ("text_encoder", "text_encoder_2") if name in named]
    if towers == ["text_encoder_2"]:
        raise BackendError(
            "This is an SDXL refiner, which cannot begin a picture; choose an SDXL base model.",
            "unsupported_model",
        )
    if not towers or "unet" not in named or "text_encoder_3" in named:
        raise BackendError(f"{path.name} is not Stable Diffusion 1.x, 2.x or XL.", "unsupported_model")
    return towers


def _refuse_other_inputs(unet: Graph, family: str) -> None:
    wanted = _KNOWN if family == "sdxl" else _KNOWN - {"text_embeds", "time_ids"}
    given = set(unet.inputs)
    if given != wanted or "out_sample" not in unet.outputs:
        raise BackendError(
            f"The unet takes {', '.join(sorted(given))} and gives {', '.join(unet.outputs)};"
            f" here it must take {', '.join(sorted(wanted))} and give out_sample.",
            "unsupported_model",
        )


def _refuse_other_channels(path: Path, channels: int) -> None:
    latent = int(_vae_config(path).get("latent_channels") or 4)
    if channels != latent:
        raise BackendError(
            f"This model's UNet takes {channels} channels where its VAE has {latent}: it is made for inpainting,"
            " depth or editing, and cannot make a picture from a prompt alone.",
            "unsupported_model",
        )


def _vae_config(path: Path) -> dict[str, Any]:
    return _read(path / "vae_decoder" / "config.json") or _read(path / "vae" / "config.json")


def _vae(path: Path, device: Device, family: str) -> Vae:
    config = _vae_config(path)
    scaling = float(config.get("scaling_factor") or _SCALING[family])
    scale = 2 ** (len(config.get("block_out_channels") or [0] * 4) - 1)
    decoder = Graph.load(path, "vae_decoder", device)
    if set(decoder.inputs) != {"latent_sample"}:
        raise BackendError("The vae_decoder must take latent_sample and nothing else.", "unsupported_model")
    return Vae(decoder, scaling, scale, path if (path / "vae_encoder" / "model.onnx").is_file() else None)


def _tower(path: Path, name: str, device: Device) -> TextTower:
    config = _read(path / name / "config.json")
    length = int(config.get("max_position_embeddings") or LENGTH)
    tokenizer = ClipTokenizer.load(path / name.replace("text_encoder", "tokenizer"), length)
    return TextTower(tokenizer, Graph.load(path, name, device), config)


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty if it is not there."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise BackendError(f"{path.name} of {path.parent.name} is not JSON.", "model_corrupt") from exc
    return found if isinstance(found, dict) else {}
