"""The JSON files of a model's folder, into which their authors may have written anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from swarmkernel_backend_api import BackendError

#: The largest such file of a published model, a tokenizer's, has 4 MB.
MAX_BYTES = 64_000_000


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if it is not there. BackendError if it is something else."""
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_BYTES:
        raise _wrong(path, "too large to be one")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise _wrong(path, "not JSON") from exc
    if not isinstance(found, dict):
        raise _wrong(path, "not a JSON object")
    return found


def _wrong(path: Path, what: str) -> BackendError:
    return BackendError(f"{path.name} of {path.parent.name} is {what}.", "model_corrupt")


@attrs.frozen
class Config:
    """The configuration of a network, in the file *name*. BackendError for a value of it that makes no sense."""

    name: str
    values: Mapping[str, Any]

    @classmethod
    def read(cls, root: Path, *names: str) -> Config:
        """The first of the files with these names that says anything; an empty configuration if none does."""
        found = ((name, read_json(root / name)) for name in names)
        return next((cls(name, values) for name, values in found if values), cls(names[0], {}))

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A number from *low* to *high*."""
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._wrong(key, value, f"a number from {low:g} to {high:g}")
        return value

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number from *low* to *high*."""
        value = self.number(key, default, low, high)
        if value != int(value):
            raise self._wrong(key, value, "a whole number")
        return int(value)

    def entries(self, key: str, default: int, high: int) -> int:
        """How many entries a list has: *high* at most."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, list) or not 1 <= len(value) <= high:
            raise self._wrong(key, value, f"a list of 1 to {high} entries")
        return len(value)

    def _wrong(self, key: str, value: object, right: str) -> BackendError:
        return BackendError(
            f"{self.name} says {key} {str(value)[:40]}, where {right} must be.", "model_corrupt"
        )
