"""The hook that this package adds."""

from __future__ import annotations

from collections.abc import Iterable

from swarmkernel import hookspec
from swarmkernel_models_api.types import ModelFolder


@hookspec
def models_folders() -> Iterable[ModelFolder]:
    """Folders with models that this plugin brings along. They come after those of the settings.

    Example::

        @hookimpl
        def models_folders():
            return [ModelFolder(Path(__file__).parent / "models")]
    """
    return ()
