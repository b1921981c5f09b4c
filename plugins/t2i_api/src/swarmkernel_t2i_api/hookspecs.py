"""Hooks that other packages implement to take part in text to image."""

from __future__ import annotations

from collections.abc import Iterable

from swarmkernel import hookspec
from swarmkernel_t2i_api.params.types import Param


@hookspec
def t2i_params() -> Iterable[Param]:
    """
    Adds parameters of a generation. They appear in `ListT2IParams`, are checked by the server, and reach a backend, typed, in
    `ImageJob.extra` by their id: the letters of their name in lower case. One of type `image` arrives as the bytes of a
    PNG, JPEG, WEBP or GIF.
    """
    return ()
