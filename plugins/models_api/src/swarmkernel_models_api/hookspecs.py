"""The hook that this package adds."""

from __future__ import annotations

from collections.abc import Iterable

from swarmkernel import hookspec
from swarmkernel_models_api.types import ModelFolder


@hookspec
def models_folders() -> Iterable[ModelFolder]:
    """Adds folders with models that the plugin brings along, after those of the settings."""
    return ()
