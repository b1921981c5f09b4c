"""Model classes and compat classes: which models are of one kind, and which fit together.

The rows are those of the SwarmUI wire; the names of classes are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from swarmkernel_models_api.class_tables import CLASS_ROWS, COMPAT_ROWS, PARTS, REMAPS, WORDS


@attrs.frozen
class CompatClass:
    """Models that can share LoRAs, VAEs and latents.

    `resolution_precision` is what width and height (pixels) should be multiples of. `vae_family` is one of the ids
    of the wire or None.
    """

    id: str
    short_code: str
    loras_target_text_enc: bool = True
    is_text2video: bool = False
    is_image2video: bool = False
    is_audio_model: bool = False
    has_joint_av_latents: bool = False
    resolution_precision: int = 16
    vae_family: str | None = None

    def wire(self) -> dict[str, Any]:
        """The object in `model_compat_classes` of `ListT2IParams`."""
        return attrs.asdict(self)


@attrs.frozen
class ModelClass:
    """An architecture, with the size in pixels that its models were trained for (0: no size)."""

    id: str
    name: str
    compat_class: str
    standard_width: int
    standard_height: int

    @property
    def is_lora(self) -> bool:
        """Whether files of this class are LoRAs."""
        return "/lora" in self.id or "/control-lora" in self.id

    def wire(self) -> dict[str, Any]:
        """The object in `model_classes` of `ListT2IParams`."""
        return attrs.asdict(self)


def find_class(architecture: str) -> ModelClass | None:
    """The class that a file's stated architecture names, in any letter case and by any of its older names."""
    wanted = architecture.strip().lower()
    return _BY_LOWER.get(REMAPS.get(wanted, wanted).lower())


def _compat(row: tuple[str, str, str | None, bool, str]) -> CompatClass:
    id_, short_code, family, text_encoder, media = row
    return CompatClass(
        id_,
        short_code,
        loras_target_text_enc=text_encoder,
        is_text2video="t2v" in media,
        is_image2video="i2v" in media,
        is_audio_model=media == "audio",
        has_joint_av_latents="av" in media.split(),
        resolution_precision=32 if id_ == "minimax-h3" else 16,
        vae_family=family,
    )


def _classes() -> dict[str, ModelClass]:
    return {
        id_: ModelClass(id_, _display_name(id_), compat, width, height)
        for compat, width, height, ids in CLASS_ROWS
        for id_ in ids.split()
    }


def _display_name(id_: str) -> str:
    base, _, part = id_.partition("/")
    return " ".join(filter(None, (_words(base), PARTS.get(part) or _words(part))))


def _words(text: str) -> str:
    """`hunyuan-video-1_5` as `Hunyuan Video 1.5`."""
    words = re.sub(r"(?<=\d)_(?=\d)", ".", text).replace("_", "-").split("-")
    return " ".join(
        WORDS.get(word, word if re.match(r"v\d", word) else word[:1].upper() + word[1:]) for word in words
    )


COMPAT_CLASSES: Final[Mapping[str, CompatClass]] = MappingProxyType(
    {row[0]: _compat(row) for row in COMPAT_ROWS}
)
CLASSES: Final[Mapping[str, ModelClass]] = MappingProxyType(_classes())
_BY_LOWER = {id_.lower(): found for id_, found in CLASSES.items()}
