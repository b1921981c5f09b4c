"""What files say of themselves: `modelspec` keys in their headers, and the JSON files that other tools put beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from swarmkernel_models_api.errors import ModelFileError
from swarmkernel_models_api.opening import open_regular
from swarmkernel_models_api.types import Metadata

#: Endings of the JSON files beside a model, the most telling first.
SIDECARS: Final = (".swarm.json", ".json", ".cm-info.json", ".civitai.info")

MAX_SIDECAR: Final = 16 * 1024 * 1024
MAX_PREVIEW: Final = 8 * 1024 * 1024

_PREFIX: Final = "modelspec."
_SHORT: Final = 4096
_LIMITS: Final[Mapping[str, int]] = {
    "description": 4 * 1024 * 1024,
    "usage_hint": 40960,
    "trigger_phrase": 40960,
    "merged_from": 81920,
}
_TEXTS: Final = (
    "author",
    "description",
    "license",
    "date",
    "usage_hint",
    "trigger_phrase",
    "merged_from",
    "prediction_type",
    "preprocessor",
)
_PREDICTIONS: Final[Mapping[str, str]] = {
    "v_prediction": "v",
    "v-prediction": "v",
    "vpred": "v",
    "v_pred": "v",
    "eps": "epsilon",
}

Stated = Mapping[str, Any]


def read_json(path: Path, limit: int = MAX_SIDECAR) -> dict[str, Any]:
    """The JSON object in a file of at most *limit* bytes; ModelFileError if it holds none."""
    with open_regular(path) as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise ModelFileError(f"{path.name} is larger than {limit >> 10} KiB")
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise ModelFileError(f"{path.name} is not JSON: {exc}") from None
    if not isinstance(content, dict):
        raise ModelFileError(f"{path.name} is not a JSON object")
    return content


def stated(header: Stated, sidecars: Iterable[Path]) -> dict[str, Any]:
    """Everything that is said of a model, by bare key; what stands in a sidecar wins over the header."""
    merged = _bare(header)
    for path in reversed(list(sidecars)):
        try:
            merged |= _bare(read_json(path))
        except (OSError, ModelFileError):
            continue
    return merged


def read_metadata(said: Stated) -> Metadata:
    """The values that are kept of what is *said*, within the limits of the wire."""
    texts = {key: _text(said, key) for key in _TEXTS}
    texts["description"] = texts["description"] or _described(said)
    texts["trigger_phrase"] = texts["trigger_phrase"] or _triggers(said)
    width, height = read_resolution(said)
    return Metadata(
        **texts | {"prediction_type": _prediction(texts["prediction_type"])},
        tags=_tags(said.get("tags")),
        resolution=f"{width}x{height}",
        is_negative_embedding=_plain(said.get("is_negative_embedding")).lower() == "true",
        lora_default_weight=_plain(said.get("lora_default_weight"))[:_SHORT],
        lora_default_confinement=_plain(said.get("lora_default_confinement"))[:_SHORT],
        hash=_plain(said.get("hash_sha256"))[:_SHORT],
        special_format=_plain(said.get("special_format"))[:_SHORT],
    )


def read_title(said: Stated) -> str | None:
    """The title that a model's author gave it."""
    model = said.get("model")
    named = model.get("name") if isinstance(model, dict) else None
    candidates = (said.get("title"), named, *(said.get(k) for k in ("UserTitle", "ModelName", "name")))
    return next((text[:_SHORT] for text in map(_plain, candidates) if text), None)


def read_resolution(said: Stated) -> tuple[int, int]:
    """Width and height in pixels as stated, or zeros."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*x\s*(\d{1,5})\s*", _plain(said.get("resolution")))
    if match:
        return int(match[1]), int(match[2])
    sides = [_plain(said.get(key)) for key in ("standard_width", "standard_height")]
    return (int(sides[0]), int(sides[1])) if all(re.fullmatch(r"\d{1,5}", side) for side in sides) else (0, 0)


def read_architecture(said: Stated) -> str:
    """What the file calls its architecture; empty if it does not."""
    keys = ("architecture", "general.architecture", "model_type", "ss_network_module")
    return next((text for key in keys if (text := _plain(said.get(key)))), "")


def read_thumbnail(said: Stated) -> str | None:
    """The preview picture in the metadata, as a `data:image/...` URL."""
    for key in ("thumbnail", "preview_image"):
        text = said.get(key)
        if isinstance(text, str) and text.startswith("data:image/") and len(text) <= MAX_PREVIEW:
            return text
    return None


def _bare(source: Stated) -> dict[str, Any]:
    prefixed = {key.removeprefix(_PREFIX): value for key, value in source.items() if key.startswith(_PREFIX)}
    return {**source, **prefixed}


def _plain(value: Any) -> str:
    """A scalar as text without surrounding blanks."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _text(said: Stated, key: str) -> str | None:
    return _plain(said.get(key))[: _LIMITS.get(key, _SHORT)] or None


def _described(said: Stated) -> str | None:
    parts = (_plain(said.get(key)) for key in ("VersionName", "VersionDescription", "ModelDescription"))
    return "\n".join(part for part in parts if part)[: _LIMITS["description"]] or None


def _triggers(said: Stated) -> str | None:
    for key in ("TrainedWords", "trainedWords", "activation text"):
        value = said.get(key)
        text = ", ".join(map(_plain, value)) if isinstance(value, list) else _plain(value)
        if text:
            return text[: _LIMITS["trigger_phrase"]]
    return None


def _tags(value: Any) -> tuple[str, ...] | None:
    items = value if isinstance(value, list) else _plain(value).split(",")
    return tuple(tag for item in items if (tag := _plain(item)[:_SHORT]))[:128] or None


def _prediction(text: str | None) -> str | None:
    return _PREDICTIONS.get(text.lower(), text) if text else None
