"""Pictures of shapes with their captions: one shape, two to four alike, two with a relation.

A picture is a pure function of its seed. Sizes and places vary little on purpose: a caption then leaves
little open, and the small model learns the caption's part of the picture first.

Six pairs of colour and shape, and a tenth of all triples with the background, are never drawn for training,
so that prompts can ask for combinations that the model has not seen.
"""

import zlib
from collections.abc import Callable
from random import Random

import attrs
from PIL.Image import Image as PilImage

from . import words
from .shapes import COLOR_NAMES, COLORS, SHAPE_NAMES, SHAPES, Canvas, jittered

HELD_OUT_PAIRS = frozenset(
    {
        ("purple", "star"),
        ("orange", "heart"),
        ("green", "diamond"),
        ("blue", "ring"),
        ("pink", "square"),
        ("yellow", "triangle"),
    }
)
PLACES = {
    "center": (0.5, 0.5),
    "left": (0.25, 0.5),
    "right": (0.75, 0.5),
    "top": (0.5, 0.25),
    "bottom": (0.5, 0.75),
    "top left": (0.26, 0.26),
    "top right": (0.74, 0.26),
    "bottom left": (0.26, 0.74),
    "bottom right": (0.74, 0.74),
}
COUNT_PLACES = {
    2: ((0.27, 0.5), (0.73, 0.5)),
    3: ((0.18, 0.5), (0.5, 0.5), (0.82, 0.5)),
    4: ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)),
}
COUNT_RADII = {2: 0.19, 3: 0.125, 4: 0.18}
RELATION_PLACES = {
    "left": ((0.27, 0.5), (0.73, 0.5)),
    "right": ((0.73, 0.5), (0.27, 0.5)),
    "above": ((0.5, 0.26), (0.5, 0.74)),
    "below": ((0.5, 0.74), (0.5, 0.26)),
    "inside": ((0.5, 0.5), (0.5, 0.5)),
}
ROOMY = ("circle", "square", "hexagon")
UNKNOWN = -1
LABELS = {
    "color": len(COLOR_NAMES),
    "shape": len(SHAPE_NAMES),
    "background": len(COLOR_NAMES),
    "layout": 2 + len(PLACES) + len(COUNT_PLACES) + len(RELATION_PLACES),
    "second_color": len(COLOR_NAMES),
    "second_shape": len(SHAPE_NAMES),
}
"""What the text encoder's auxiliary heads read from a caption: the number of classes of each label."""
LAYOUTS = ("small", "large", *PLACES, *COUNT_PLACES, *(f"{relation} of" for relation in RELATION_PLACES))


@attrs.frozen
class Thing:
    """A coloured shape."""

    color: str
    shape: str

    def words(self, rng: Random, size: str = "") -> str:
        """`red circle`, without its article."""
        prefix = rng.choice(words.SIZES[size]) + " " if size else ""
        return f"{prefix}{words.color_word(rng, self.color)} {words.shape_word(rng, self.shape)}"

    def draw(self, rng: Random, canvas: Canvas, x: float, y: float, radius: float) -> None:
        """Draw it with slightly varied place, size and colour."""
        x, y = x + rng.uniform(-0.015, 0.015), y + rng.uniform(-0.015, 0.015)
        SHAPES[self.shape](canvas, x, y, radius * rng.uniform(0.94, 1.06), jittered(rng, COLORS[self.color]))


@attrs.frozen
class Picture:
    """An image, a way to caption it (each call may word it differently), and its labels in the order of `LABELS`."""

    image: PilImage
    caption: Callable[[Random], str]
    labels: tuple[int, ...] = (UNKNOWN,) * len(LABELS)


def held_out(thing: Thing, background: str) -> bool:
    """Whether training must never show this thing on this background."""
    triple = f"{thing.color}|{thing.shape}|{background}"
    return (thing.color, thing.shape) in HELD_OUT_PAIRS or zlib.crc32(triple.encode()) % 10 == 0


def any_thing(rng: Random) -> Thing:
    """Any colour with any shape."""
    return Thing(rng.choice(COLOR_NAMES), rng.choice(SHAPE_NAMES))


def plain_background(*things: Thing) -> str:
    """The background when the caption names none."""
    return "white" if all(thing.color != "white" for thing in things) else "black"


def _labels(
    thing: Thing, background: str | None, layout: object, second: Thing | None = None
) -> tuple[int, ...]:
    return (
        COLOR_NAMES.index(thing.color),
        SHAPE_NAMES.index(thing.shape),
        COLOR_NAMES.index(background) if background else UNKNOWN,
        LAYOUTS.index(layout),
        COLOR_NAMES.index(second.color) if second else UNKNOWN,
        SHAPE_NAMES.index(second.shape) if second else UNKNOWN,
    )


def _canvas(rng: Random, background: str) -> Canvas:
    return Canvas(jittered(rng, COLORS[background]))


def _choose(rng: Random, count: int, named: bool) -> tuple[list[Thing], str]:
    """Things of different colours, and a background: all allowed in training, in the end as they are drawn."""
    while True:
        things = [any_thing(rng) for _ in range(count)]
        background = rng.choice(COLOR_NAMES) if named else plain_background(*things)
        colors = {background, *(thing.color for thing in things)}
        if len(colors) == count + 1 and not any(held_out(thing, background) for thing in things):
            return things, background


def single(rng: Random) -> Picture:
    """One shape; size, place and background may or may not be named."""
    named = rng.random() < 0.75
    [thing], background = _choose(rng, 1, named)
    size = rng.choices(("", "small", "large"), (70, 15, 15))[0]
    place = rng.choice(list(PLACES)) if not size and rng.random() < 0.4 else ""
    radius = {"small": 0.13, "large": 0.41, "": 0.29 if place in ("", "center") else 0.19}[size]
    canvas = _canvas(rng, background)
    thing.draw(rng, canvas, *PLACES[place or "center"], radius)

    def caption(rng: Random) -> str:
        phrase = words.with_article(thing.words(rng, size))
        at = words.at_place(rng, place) if place else ""
        if named and rng.random() < 0.05:
            return f"{words.with_article(words.color_word(rng, background))} background with {phrase}{at}"
        return phrase + at + (words.on_background(rng, background) if named else "")

    return Picture(canvas.finished(), caption, _labels(thing, background, size or place or "center"))


def several(rng: Random) -> Picture:
    """Two to four of the same shape."""
    named = rng.random() < 0.6
    count = rng.choice((2, 3, 4))
    [thing], background = _choose(rng, 1, named)
    canvas = _canvas(rng, background)
    for x, y in COUNT_PLACES[count]:
        thing.draw(rng, canvas, x, y, COUNT_RADII[count])

    def caption(rng: Random) -> str:
        phrase = f"{rng.choice(words.NUMBERS[count])} {words.plural(thing.words(rng))}"
        return phrase + (words.on_background(rng, background) if named else "")

    return Picture(canvas.finished(), caption, _labels(thing, background, count))


def pair(rng: Random) -> Picture:
    """Two shapes with a spatial relation."""
    named = rng.random() < 0.4
    relation = rng.choices(tuple(RELATION_PLACES), (3, 2, 2, 2, 0.7))[0]
    while True:
        (first, second), background = _choose(rng, 2, named)
        if relation != "inside" or second.shape in ROOMY:
            break
    canvas = _canvas(rng, background)
    radii = (0.15, 0.38) if relation == "inside" else (0.19, 0.19)
    places = RELATION_PLACES[relation]
    for thing, place, radius in sorted(zip((first, second), places, radii, strict=True), key=lambda x: -x[2]):
        thing.draw(rng, canvas, *place, radius)

    def caption(rng: Random) -> str:
        one, other = words.with_article(first.words(rng)), words.with_article(second.words(rng))
        phrase = one + rng.choice(words.RELATIONS[relation]) + other
        return phrase + (words.on_background(rng, background) if named else "")

    return Picture(canvas.finished(), caption, _labels(first, background, f"{relation} of", second))
