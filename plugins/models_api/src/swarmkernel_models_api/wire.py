"""The model object of the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from swarmkernel_models_api.classes import CLASSES
from swarmkernel_models_api.previews import preview_url
from swarmkernel_models_api.types import MAIN, Metadata, Model


def model_object(model: Model, *, loaded: bool, preview: str | None = None) -> dict[str, Any]:
    """What clients get to know of a model; *preview* is a `data:` URL in place of the address of the picture."""
    known = CLASSES.get(model.class_id or "")
    return {
        "name": model.name,
        "title": model.title,
        "preview_image": preview or preview_url(model),
        "loaded": loaded,
        "architecture": model.class_id,
        "class": known.name if known else None,
        "compat_class": model.compat_class,
        "standard_width": model.standard_width,
        "standard_height": model.standard_height,
        "is_supported_model_format": model.is_supported,
        "local": model.is_local,
        "time_created": model.created,
        "time_modified": model.modified,
        **_described(model),
    }


def _described(model: Model) -> dict[str, Any]:
    said: Metadata = model.metadata
    return {
        "author": said.author,
        "description": "\n".join(filter(None, (model.problem, said.description))) or None,
        "resolution": said.resolution,
        "license": said.license,
        "date": said.date,
        "usage_hint": said.usage_hint,
        "trigger_phrase": said.trigger_phrase,
        "merged_from": said.merged_from,
        "prediction_type": said.prediction_type,
        "tags": None if said.tags is None else list(said.tags),
        "is_negative_embedding": said.is_negative_embedding,
        "lora_default_weight": said.lora_default_weight,
        "lora_default_confinement": said.lora_default_confinement,
        "hash": said.hash,
        "hash_sha256": said.hash,
        "special_format": said.special_format,
    }


#: What clients are told of the placeholder `(None)`, which stands for no model at all.
NO_MODEL: Final = model_object(Model("(None)", MAIN, Path(), "No model"), loaded=False)
