"""Loading a model's parts from a diffusers folder of ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.config_files import Config, read_json
from swarmkernel_backends_onnx.graph import Graph
from swarmkernel_backends_onnx.providers import Device
from swarmkernel_backends_onnx.tokenizer import LENGTH, ClipTokenizer

INDEX = "model_index.json"
#: What each family's latents are divided by, for folders that do not say.
_SCALING = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
#: What a UNet may take here.
_KNOWN = {"sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"}
#: An axis of an input that must take every size, and one that may take what it will.
_FREE, _ANY = 0, -1


@attrs.frozen(eq=False)
class TextTower:
    """One text encoder with its tokenizer; *eps* is that of its layer norms."""

    tokenizer: ClipTokenizer
    graph: Graph
    eps: float


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
    scheduler = read_json(path / "scheduler" / "scheduler_config.json")
    if not scheduler:
        raise BackendError(f"{path.name} has no scheduler/scheduler_config.json.", "model_corrupt")
    config = Config.read(path, "unet/config.json")
    family = "sdxl" if len(names) > 1 else "sd2" if config.values.get("use_linear_projection") else "sd1"
    channels = config.whole("in_channels", 4, 1, 64)
    vae = _vae(path, device, family, channels)
    unet = Graph.load(path, "unet", device)
    _refuse_other_inputs(unet, family, channels)
    towers = tuple(_tower(path, name, device) for name in names)
    _refuse_other_outputs(towers, family)
    return Parts(family, unet, channels, vae, towers, scheduler)


def load_encoder(vae: Vae) -> Graph | None:
    """The VAE's encoder; None if the model has none."""
    if vae.encoder_folder is None:
        return None
    encoder = Graph.load(vae.encoder_folder, "vae_encoder", vae.decoder.device)
    if len(encoder.inputs) != 1:
        raise BackendError("The vae_encoder must take pictures and nothing else.", "unsupported_model")
    _check_shape(encoder, next(iter(encoder.inputs)), _FREE, 3, _FREE, _FREE)
    return encoder


def _towers(path: Path) -> list[str]:
    """The text encoders that the index names."""
    index = read_json(path / INDEX)
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


def _refuse_other_inputs(unet: Graph, family: str, channels: int) -> None:
    wanted = _KNOWN if family == "sdxl" else _KNOWN - {"text_embeds", "time_ids"}
    given = set(unet.inputs)
    if given != wanted or "out_sample" not in unet.outputs:
        raise BackendError(
            f"The unet takes {', '.join(sorted(given))} and gives {', '.join(unet.outputs)};"
            f" here it must take {', '.join(sorted(wanted))} and give out_sample.",
            "unsupported_model",
        )
    _check_shape(unet, "sample", _FREE, channels, _FREE, _FREE)
    _check_shape(unet, "encoder_hidden_states", _FREE, _FREE, _ANY)
    if family == "sdxl":
        _check_shape(unet, "text_embeds", _FREE, _ANY)
        _check_shape(unet, "time_ids", _FREE, 6)


def _check_shape(graph: Graph, name: str, *wanted: int) -> None:
    """Refuse an input that takes less than every number of rows and every size; a graph need not say what it takes."""
    given = graph.inputs[name].shape
    fits = len(given) == len(wanted) and all(
        not isinstance(has, int) or axis in {has, _ANY} for has, axis in zip(given, wanted, strict=True)
    )
    if given and not fits:
        raise BackendError(
            f"The {graph.name} takes {name} as {_sizes(given)} only; here it must take {_sizes(wanted)}."
            " Export it with free axes, as `swarmkernel export-onnx` does.",
            "unsupported_model",
        )


def _sizes(shape: tuple[int | str | None, ...]) -> str:
    return " x ".join(str(size) if isinstance(size, int) and size > 0 else "any" for size in shape)


def _vae(path: Path, device: Device, family: str, channels: int) -> Vae:
    config = Config.read(path, "vae_decoder/config.json", "vae/config.json")
    if channels != (latent := config.whole("latent_channels", 4, 1, 64)):
        raise BackendError(
            f"This model's UNet takes {channels} channels where its VAE has {latent}: it is made for inpainting,"
            " depth or editing, and cannot make a picture from a prompt alone.",
            "unsupported_model",
        )
    scaling = config.number("scaling_factor", _SCALING[family], 1e-3, 1e3)
    scale = 2 ** (config.entries("block_out_channels", 4, 8) - 1)
    decoder = Graph.load(path, "vae_decoder", device)
    if set(decoder.inputs) != {"latent_sample"}:
        raise BackendError("The vae_decoder must take latent_sample and nothing else.", "unsupported_model")
    _check_shape(decoder, "latent_sample", 1, channels, _FREE, _FREE)
    return Vae(decoder, scaling, scale, path if (path / "vae_encoder" / "model.onnx").is_file() else None)


def _tower(path: Path, name: str, device: Device) -> TextTower:
    config = Config.read(path, f"{name}/config.json")
    length = config.whole("max_position_embeddings", LENGTH, 3, 1024)
    tokenizer = ClipTokenizer.load(path / name.replace("text_encoder", "tokenizer"), length)
    known = config.whole("vocab_size", tokenizer.size, 1, 2**31)
    if tokenizer.size > known:
        raise BackendError(
            f"The tokenizer of {path.name} gives numbers up to {tokenizer.size - 1}, of which its {name} knows {known}"
            " only.",
            "model_corrupt",
        )
    graph = Graph.load(path, name, device)
    if set(graph.inputs) != {"input_ids"}:
        raise BackendError(f"The {name} must take input_ids and nothing else.", "unsupported_model")
    _check_shape(graph, "input_ids", _FREE, tokenizer.length)
    return TextTower(tokenizer, graph, config.number("layer_norm_eps", 1e-5, 0, 1))


def _refuse_other_outputs(towers: tuple[TextTower, ...], family: str) -> None:
    """What each tower must give at least: that is all where it is not asked for other layers than it was trained with."""
    wanted = [{"last_hidden_state"}]
    if family == "sdxl":
        wanted = [{"hidden_states.0"}, {"hidden_states.0", "text_embeds"}]
    for tower, names in zip(towers, wanted, strict=True):
        if missing := names - set(tower.graph.outputs):
            raise BackendError(
                f"The {tower.graph.name} gives no {', '.join(sorted(missing))}, which this family of models needs;"
                " `swarmkernel export-onnx` keeps all states.",
                "unsupported_model",
            )
