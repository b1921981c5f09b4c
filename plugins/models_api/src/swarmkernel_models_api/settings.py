"""The plugin's table in the settings file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from swarmkernel_models_api.known import NOT_RUN, OFFICIAL, STARTER, file_name

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


_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_FILE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,150}\.safetensors")
_RESERVED: Final = NOT_RUN | {STARTER, "none"}


def _usable_sources(_instance: Any, _attribute: attrs.Attribute[Any], value: dict[str, str]) -> None:
    for model_id, url in value.items():
        parts = urlsplit(url)
        if not _ID.fullmatch(model_id) or model_id in _RESERVED:
            raise ValueError(f"{model_id!r} cannot be the id of a source; take lower-case letters and digits")
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError(f"the source of {model_id} is no http or https URL without a user name")
        is_ours = any(model.id == model_id for model in OFFICIAL)
        if not is_ours and not _FILE.fullmatch(file_name(url)):
            raise ValueError(f"the source of {model_id} does not end in the name of a .safetensors file")


@attrs.frozen
class ModelsSettings:
    """`[models_api]`.

    `roots` are folders that hold one folder per kind of model; none means `Models` in the data directory.
    `folders` replaces the names of the folders of a kind, relative to every root or absolute:
    `folders = { "Stable-Diffusion" = ["checkpoints"] }`.
    `sources` are addresses of models that the first-run installation offers, by id. For one of the known ids it is
    another place of the same file, whose SHA-256 is still checked; another id adds a model.
    """

    roots: list[str] = attrs.field(factory=list)
    folders: dict[str, list[str]] = attrs.field(factory=dict, validator=_known_kinds)
    sources: dict[str, str] = attrs.field(factory=dict, validator=_usable_sources)
