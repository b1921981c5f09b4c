"""Every kind of picture, by the name of its chunks."""

from collections.abc import Callable
from random import Random

from .data import Picture, pair, several, single
from .icons import icon
from .scenes import scene

KINDS: dict[str, Callable[[Random], Picture]] = {
    "single": single,
    "several": several,
    "pair": pair,
    "scene": scene,
    "icon": icon,
}
