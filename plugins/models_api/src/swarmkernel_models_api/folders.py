"""Which folders hold which kind of model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from swarmkernel_models_api.settings import ModelsSettings
from swarmkernel_models_api.types import ModelFolder

#: Kind of model -> its folders under a root.
FOLDER_NAMES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Stable-Diffusion": ("Stable-Diffusion", "tensorrt", "diffusion_models", "unet"),
        "VAE": ("VAE",),
        "LoRA": ("Lora",),
        "Embedding": ("Embeddings",),
        "ControlNet": ("controlnet", "model_patches"),
        "Clip": ("text_encoders", "clip"),
        "ClipVision": ("clip_vision",),
    }
)

#: The subtypes of the wire that are files of models.
KINDS: Final[tuple[str, ...]] = tuple(FOLDER_NAMES)


def model_folders(settings: ModelsSettings, data_dir: Path, added: Iterable[ModelFolder]) -> list[ModelFolder]:
    """Every folder to scan, first come first: those of the settings, then those that plugins *added*.

    Relative roots are below *data_dir*. A folder need not exist.
    """
    roots = [data_dir / root for root in settings.roots] or [data_dir / "Models"]
    own = (folder for root in roots for folder in _below(root, settings))
    return [*own, *added]


def _below(root: Path, settings: ModelsSettings) -> Iterator[ModelFolder]:
    for kind, names in FOLDER_NAMES.items():
        for name in settings.folders.get(kind, names):
            yield ModelFolder(root / name, kind, read_only=False)
