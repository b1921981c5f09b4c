"""Hooks that other packages implement to take part in text to image."""

from __future__ import annotations

from collections.abc import Iterable

from swarmkernel import hookspec
from swarmkernel_t2i_api.params.types import Param


@hookspec
def t2i_params() -> Iterable[Param]:
    """Parameters of a generation that this plugin adds.

    A backend finds their values, typed, in `ImageJob.extra` by id. Two plugins cannot own one id.

    Example::

        @hookimpl
        def t2i_params():
            return [Param("Sharpness", "decimal", default="0", ignore="0", min=0, max=10, group=SAMPLING)]
    """
    return ()
