"""The plugin's table in the settings file."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

#: Kind of model (a subtype of the wire) -> its folders under a root.
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


def _known_kinds(_instance: Any, _attribute: attrs.Attribute[Any], value: dict[str, list[str]]) -> None:
    for kind in value:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of model; there are {', '.join(KINDS)}")


@attrs.frozen
class ModelsSettings:
    """`[models_api]`.

    `roots` are folders that hold one folder per kind of model; none means `Models` in the data directory.
    `folders` replaces the names of the folders of a kind, relative to every root or absolute:
    `folders = { "Stable-Diffusion" = ["checkpoints"] }`.
    """

    roots: list[str] = attrs.field(factory=list)
    folders: dict[str, list[str]] = attrs.field(factory=dict, validator=_known_kinds)
