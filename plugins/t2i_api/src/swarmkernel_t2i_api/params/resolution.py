"""How large a picture becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from swarmkernel_t2i_api.errors import ParamError

#: Width and height that a shape has at a side length of 512.
SHAPES: Final[Mapping[str, tuple[int, int]]] = {
    "1:1": (512, 512),
    "4:3": (576, 448),
    "3:2": (608, 416),
    "8:5": (608, 384),
    "16:9": (672, 384),
    "21:9": (768, 320),
    "3:4": (448, 576),
    "2:3": (416, 608),
    "5:8": (384, 608),
    "9:16": (384, 672),
    "9:21": (320, 768),
}
SMALLEST, LARGEST = 64, 16384
_RAW = re.compile(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*", re.ASCII)


def picture_size(
    values: Mapping[str, object], standard: tuple[int, int] = (512, 512), precision: int = 16
) -> tuple[int, int]:
    """Width and height in pixels that the parameters ask for.

    The first that applies: `rawresolution`; `sidelength` with a known `aspectratio`; `width` and `height`, each
    the model's *standard* one if it is missing, in the shape of `aspectratio` if both are.
    *precision* is what sides computed from a shape are a multiple of.
    """
    if "rawresolution" in values:
        return read_resolution(str(values["rawresolution"]))
    side, shape = values.get("sidelength"), SHAPES.get(str(values.get("aspectratio", "1:1")))
    if side is None and "width" not in values and "height" not in values and shape != SHAPES["1:1"]:
        side = round((standard[0] * standard[1]) ** 0.5)
    if shape is not None and isinstance(side, int):
        return _scaled(shape[0], side, precision), _scaled(shape[1], side, precision)
    width, height = values.get("width", standard[0]), values.get("height", standard[1])
    return int(str(width)), int(str(height))


def read_resolution(text: str) -> tuple[int, int]:
    """Width and height of a text like ``1024x768``; ParamError for anything else."""
    match = _RAW.fullmatch(text)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(SMALLEST <= side <= LARGEST for side in sides):
        raise ParamError(
            f"Invalid value for parameter Raw Resolution: it must read WIDTHxHEIGHT, "
            f"such as 1024x768, with sides between {SMALLEST} and {LARGEST}."
        )
    return sides


def _scaled(reference: int, side: int, precision: int) -> int:
    return max(precision, round(reference * side / 512 / precision) * precision)
