"""Who reads what model files say of themselves: this process, or one that may die of it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import attrs

from swarmkernel_models_api.examine import Found, examine
from swarmkernel_models_api.facts import Facts
from swarmkernel_models_api.headers import header_problem
from swarmkernel_models_api.opening import confined
from swarmkernel_models_api.previews import Embedded, embedded_picture
from swarmkernel_models_api.types import Model


class Reader(Protocol):
    """Reads files below *roots*, resolved folders, and no others. Its methods block: call them in a thread."""

    roots: tuple[Path, ...]

    def examine(self, found: Found) -> Facts:
        """What is in a model."""

    def picture(self, model: Model) -> bytes:
        """The picture in a model's metadata; empty if there is none."""

    def header_problem(self, path: Path) -> str | None:
        """Why a file is no safetensors file that can be used, or None if it is one."""

    def close(self) -> None:
        """Read no more."""


@attrs.define
class Here:
    """Reads in this process."""

    roots: tuple[Path, ...] = ()

    def examine(self, found: Found) -> Facts:
        """What is in a model."""
        with confined(self.roots):
            return examine(found)

    def picture(self, model: Model) -> bytes:
        """The picture in a model's metadata; empty if there is none."""
        return self.embedded(Embedded.of(model))

    def embedded(self, source: Embedded) -> bytes:
        """The picture in the metadata in certain files; empty if there is none."""
        with confined(self.roots):
            return embedded_picture(source)

    def header_problem(self, path: Path) -> str | None:
        """Why a file is no safetensors file that can be used, or None if it is one."""
        with confined(self.roots):
            return header_problem(path)

    def close(self) -> None:
        """There is nothing to end."""
