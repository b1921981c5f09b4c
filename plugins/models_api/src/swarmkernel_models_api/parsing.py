"""What the server and the process that reads model files say to each other."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs

from swarmkernel_models_api.examine import Found
from swarmkernel_models_api.facts import Facts
from swarmkernel_models_api.previews import Embedded

_Value = TypeVar("_Value")


@attrs.frozen
class Question:
    """One of three questions, about files below *roots*."""

    roots: tuple[Path, ...]
    examine: Found | None = None
    picture: Embedded | None = None
    header: Path | None = None


@attrs.frozen
class Examined:
    """What is in a model, and what was logged over it."""

    facts: Facts
    said: tuple[str, ...] = ()


@attrs.frozen
class Checked:
    """Why a file is no safetensors file that can be used, or None."""

    problem: str | None


@functools.cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    return converter


def dump(value: Any) -> bytes:
    """A value of ours as JSON; names that are no text in the file system's encoding survive."""
    return json.dumps(_converter().unstructure(value), default=_plain).encode()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else sorted(value)


def load(raw: bytes, kind: type[_Value]) -> _Value:
    """The value of that class that was sent, with attributes of the right types, or any exception."""
    return _converter().structure(json.loads(raw), kind)
