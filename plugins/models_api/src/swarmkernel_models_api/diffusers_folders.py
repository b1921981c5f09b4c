"""Looking at a diffusers folder: a model in several files, described by `model_index.json`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from swarmkernel_models_api.errors import ModelFileError
from swarmkernel_models_api.headers import read_header
from swarmkernel_models_api.metadata import read_json

INDEX: Final = "model_index.json"

#: More entries than any diffusers folder has.
MAX_ENTRIES: Final = 5000
MAX_CONFIG: Final = 1024 * 1024

_WEIGHTED: Final = (
    "unet",
    "transformer",
    "transformer_2",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "prior",
    "image_encoder",
)

#: The graphs without which a diffusers folder is none that an ONNX engine can use.
_GRAPHS: Final = ("unet", "vae_decoder", "text_encoder")

#: Pipelines whose class does not depend on what is in their configurations.
_PIPELINES: Final[Mapping[str, str]] = {
    "StableDiffusion3Pipeline": "stable-diffusion-v3-medium",
    "StableVideoDiffusionPipeline": "stable-video-diffusion-img2vid-v1",
    "AuraFlowPipeline": "auraflow-v1",
    "SanaPipeline": "nvidia-sana-1600",
    "PixArtSigmaPipeline": "pixart-ms-sigma-xl-2",
    "QwenImagePipeline": "qwen-image",
    "Lumina2Pipeline": "lumina-2",
    "ZImagePipeline": "z-image",
    "HiDreamImagePipeline": "hidream-i1",
    "MochiPipeline": "genmo-mochi-1",
    "LTXPipeline": "lightricks-ltx-video",
}


@attrs.frozen
class FolderFacts:
    """Class, own size in pixels (0: unknown), prediction type and forms of a diffusers folder."""

    class_id: str | None
    width: int
    height: int
    prediction_type: str | None
    forms: frozenset[str]


def files_of(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every file below a diffusers folder; ModelFileError if there are absurdly many."""
    waiting, seen = [folder], 0
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                seen += 1
                if seen > MAX_ENTRIES:
                    raise ModelFileError(f"its folder holds more than {MAX_ENTRIES} files")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_dir():
                    raise ModelFileError("its folder holds a link to another folder")
                else:
                    yield entry


def read_folder(folder: Path) -> FolderFacts:
    """Look at a diffusers folder; ModelFileError says why it cannot be used."""
    if any(entry.name.endswith(".py") for entry in files_of(folder)):
        raise ModelFileError("its folder holds Python files, which would run when it is loaded")
    index = read_json(folder / INDEX, MAX_CONFIG)
    forms = _forms(folder, index)
    unet, scheduler = (_config(folder / part) for part in ("unet", "scheduler"))
    vae = _config(folder / "vae") or _config(folder / "vae_decoder")
    prediction = {"epsilon": "epsilon", "v_prediction": "v"}.get(str(scheduler.get("prediction_type")))
    width, height = _size(unet or _config(folder / "transformer"), vae)
    return FolderFacts(_class(index, folder, unet, prediction), width, height, prediction, forms)


def _forms(folder: Path, index: Mapping[str, Any]) -> frozenset[str]:
    """The forms in which the folder is whole; ModelFileError if there is none."""
    second = ("text_encoder_2",) if _present(index, "text_encoder_2") else ()
    forms = {"onnx"} if all(_has_graph(folder / part) for part in (*_GRAPHS, *second)) else set()
    try:
        for part in _WEIGHTED:
            if _present(index, part):
                _check_weights(folder / part)
    except ModelFileError:
        if not forms:
            raise
    else:
        forms.add("safetensors")
    return frozenset(forms)


def _has_graph(part: Path) -> bool:
    graph = part / "model.onnx"
    return graph.is_file() and graph.stat().st_size > 0


def _present(index: Mapping[str, Any], part: str) -> bool:
    value = index.get(part)
    return isinstance(value, list) and any(item is not None for item in value)


def _check_weights(part: Path) -> None:
    names = sorted(entry.name for entry in files_of(part)) if part.is_dir() else []
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights:
        pickled = any(name.endswith((".bin", ".ckpt", ".pt")) for name in names)
        raise ModelFileError(
            f"its {part.name} has {'pickle files' if pickled else 'no weights'} instead of safetensors"
        )
    for name in weights:
        try:
            read_header(part / name)
        except ModelFileError as exc:
            raise ModelFileError(f"{part.name}/{name}: {exc}") from None


def _config(part: Path) -> dict[str, Any]:
    for name in ("config.json", "scheduler_config.json"):
        if (part / name).is_file():
            return read_json(part / name, MAX_CONFIG)
    return {}


def _size(denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> tuple[int, int]:
    """Pixels: the latent size that the denoiser was made for, times what the VAE enlarges it by."""
    blocks = vae.get("block_out_channels")
    scale = 2 ** (len(blocks) - 1) if isinstance(blocks, list) and 0 < len(blocks) <= 8 else 8
    match denoiser.get("sample_size"):
        case int(side):
            sides = (side, side)
        case [int(height), int(width)]:
            sides = (width, height)
        case _:
            return 0, 0
    width, height = (side * scale for side in sides)
    return (width, height) if 0 < width <= 16384 and 0 < height <= 16384 else (0, 0)


def _class(
    index: Mapping[str, Any], folder: Path, unet: Mapping[str, Any], prediction: str | None
) -> str | None:
    pipeline = str(index.get("_class_name"))
    if pipeline in _PIPELINES:
        return _PIPELINES[pipeline]
    if pipeline.startswith("Flux") and (transformer := _config(folder / "transformer")):
        return "Flux.1-dev" if transformer.get("guidance_embeds") else "Flux.1-schnell"
    if unet and pipeline.startswith(("StableDiffusion", "LatentConsistencyModel")):
        return _stable_diffusion(index, unet, prediction)
    return None


def _stable_diffusion(index: Mapping[str, Any], unet: Mapping[str, Any], prediction: str | None) -> str:
    channels = unet.get("in_channels")
    if _present(index, "text_encoder_2"):
        if not _present(index, "text_encoder"):
            return "stable-diffusion-xl-v1-refiner"
        return "stable-diffusion-xl-v1-edit" if channels == 8 else "stable-diffusion-xl-v1-base"
    if unet.get("cross_attention_dim") == 1024:
        special = {9: "stable-diffusion-v2-inpainting", 5: "stable-diffusion-v2-depth"}.get(channels or 0)
        return special or f"stable-diffusion-v2-{'768-v' if prediction == 'v' else '512'}"
    return "stable-diffusion-v1-inpainting" if channels == 9 else "stable-diffusion-v1"
