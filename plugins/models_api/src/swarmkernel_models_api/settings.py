"""The plugin's table in the settings file."""

from __future__ import annotations

import attrs


@attrs.frozen
class ModelsSettings:
    """`[models_api]`.

    `roots` are folders that hold one folder per kind of model; none means `Models` in the data directory.
    `folders` replaces the names of the folders of a kind, relative to every root or absolute:
    `folders = { "Stable-Diffusion" = ["checkpoints"] }`.
    """

    roots: list[str] = attrs.field(factory=list)
    folders: dict[str, list[str]] = attrs.field(factory=dict)
