"""The JSON text that says how a picture was made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs

_NON_ASCII = re.compile(r"[^\x00-\x7f]")


@attrs.frozen
class UsedModel:
    """A model file that took part: its `name` with the extension, the parameter that named it, its tensor hash."""

    name: str
    param: str
    hash: str | None = None


def build_metadata(
    params: Mapping[str, Any],
    extra: Mapping[str, Any],
    models: Iterable[UsedModel] | None = None,
    *,
    version: str,
) -> str:
    """The metadata text of a picture: pretty-printed JSON in ASCII.

    `params` holds the parameters by id, typed; `extra` the facts beside them (`date`, `prep_time`, ...);
    `models` None leaves that block out. The server's `version` comes last among the parameters.
    """
    blocks: dict[str, Any] = {
        "sui_image_params": {**params, "swarm_version": version},
        "sui_extra_data": dict(extra),
    }
    if models is not None:
        blocks["sui_models"] = [attrs.asdict(model) for model in models]
    return _dump(blocks)


def with_generation_time(text: str, seconds: float) -> str:
    """Metadata `text` with the time that the picture took; text that is not ours comes back unchanged."""
    try:
        blocks = json.loads(text)
        extra = blocks["sui_extra_data"]
        extra["generation_time"] = duration_text(seconds)
    except (ValueError, KeyError, TypeError, RecursionError):
        return text
    return _dump(blocks)


def date_text(moment: datetime) -> str:
    """`2026-08-21`."""
    return f"{moment:%Y-%m-%d}"


def duration_text(seconds: float) -> str:
    """`3.17 sec`, or `2.05 min` above two minutes."""
    return f"{seconds / 60:.2f} min" if seconds > 120 else f"{seconds:.2f} sec"


def ascii_json(text: str) -> str:
    r"""JSON text with every character beyond ASCII as `\uXXXX`, so that it fits any file format."""
    return _NON_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text)


def _dump(blocks: dict[str, Any]) -> str:
    return json.dumps(blocks, indent=2, allow_nan=False)
