"""The palette, the canvas and the ten shapes. Coordinates are fractions of the image's side, y down."""

import math
from collections.abc import Callable, Iterable
from random import Random

from PIL import Image, ImageDraw

SIZE = 128
SUPERSAMPLING = 2
CANVAS = SIZE * SUPERSAMPLING

Rgb = tuple[int, int, int]
Point = tuple[float, float]

COLORS: dict[str, Rgb] = {
    "red": (220, 38, 38),
    "green": (34, 160, 70),
    "blue": (37, 80, 220),
    "yellow": (250, 210, 40),
    "orange": (245, 130, 30),
    "purple": (130, 50, 190),
    "pink": (245, 130, 190),
    "brown": (125, 75, 40),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "gray": (135, 135, 140),
    "cyan": (60, 205, 225),
}
COLOR_NAMES = tuple(COLORS)


def jittered(rng: Random, rgb: Rgb, amount: int = 4) -> Rgb:
    """The colour, each channel moved by at most `amount`."""
    red, green, blue = (max(0, min(255, value + rng.randint(-amount, amount))) for value in rgb)
    return red, green, blue


def shaded(rgb: Rgb, factor: float) -> Rgb:
    """The colour, darkened by a factor below 1."""
    red, green, blue = rgb
    return int(red * factor), int(green * factor), int(blue * factor)


class Canvas:
    """A square image at twice the size, drawn on in fractions of its side."""

    def __init__(self, background: Rgb) -> None:
        self.image = Image.new("RGB", (CANVAS, CANVAS), background)
        self._draw = ImageDraw.Draw(self.image)

    def finished(self) -> Image.Image:
        """The image, box-filtered down to `SIZE`."""
        return self.image.reduce(SUPERSAMPLING)

    def polygon(self, points: Iterable[Point], fill: Rgb) -> None:
        self._draw.polygon([(x * CANVAS, y * CANVAS) for x, y in points], fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Rgb) -> None:
        box = [(x - rx) * CANVAS, (y - ry) * CANVAS, (x + rx) * CANVAS, (y + ry) * CANVAS]
        self._draw.ellipse(box, fill=fill)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: Rgb) -> None:
        self._draw.rectangle([x0 * CANVAS, y0 * CANVAS, x1 * CANVAS, y1 * CANVAS], fill=fill)

    def line(self, start: Point, end: Point, width: float, fill: Rgb) -> None:
        points = [(x * CANVAS, y * CANVAS) for x, y in (start, end)]
        self._draw.line(points, fill=fill, width=max(1, round(width * CANVAS)))

    def arc(
        self, box: tuple[float, float, float, float], start: float, end: float, width: float, fill: Rgb
    ) -> None:
        self._draw.arc([v * CANVAS for v in box], start, end, fill=fill, width=round(width * CANVAS))

    def half_disc(self, x: float, y: float, radius: float, fill: Rgb) -> None:
        box = [(x - radius) * CANVAS, (y - radius) * CANVAS, (x + radius) * CANVAS, (y + radius) * CANVAS]
        self._draw.pieslice(box, 180, 360, fill=fill)

    def ring(self, x: float, y: float, radius: float, width: float, fill: Rgb) -> None:
        box = [(x - radius) * CANVAS, (y - radius) * CANVAS, (x + radius) * CANVAS, (y + radius) * CANVAS]
        self._draw.ellipse(box, outline=fill, width=int(width * CANVAS))

    def gradient(self, top: Rgb, bottom: Rgb) -> None:
        """Fill everything with a vertical gradient."""
        for y in range(CANVAS):
            share = y / (CANVAS - 1)
            mixed = [round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True)]
            self._draw.line([(0, y), (CANVAS, y)], fill=(mixed[0], mixed[1], mixed[2]))


def turned(x: float, y: float, radius: float, turn: float) -> Point:
    """The point at a distance from (x, y); turn 0 is up, 0.25 is right."""
    angle = 2 * math.pi * turn
    return x + radius * math.sin(angle), y - radius * math.cos(angle)


def _circle(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    canvas.ellipse(x, y, 0.95 * r, 0.95 * r, fill)


def _square(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    canvas.rectangle(x - 0.85 * r, y - 0.85 * r, x + 0.85 * r, y + 0.85 * r, fill)


def _triangle(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    canvas.polygon([(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)], fill)


def _star(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    radii = (1.1 * r, 0.46 * r)
    canvas.polygon([turned(x, y, radii[i % 2], i / 10) for i in range(10)], fill)


def _heart(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    points = []
    for i in range(48):
        t = 2 * math.pi * i / 48
        height = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x + r * math.sin(t) ** 3, y - r * height / 16))
    canvas.polygon(points, fill)


def _diamond(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    canvas.polygon([(x, y - r), (x + 0.7 * r, y), (x, y + r), (x - 0.7 * r, y)], fill)


def _ring(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    canvas.ring(x, y, r, 0.38 * r, fill)


def _cross(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    canvas.rectangle(x - 0.32 * r, y - r, x + 0.32 * r, y + r, fill)
    canvas.rectangle(x - r, y - 0.32 * r, x + r, y + 0.32 * r, fill)


def _hexagon(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    canvas.polygon([turned(x, y, r, (i + 0.5) / 6) for i in range(6)], fill)


def _moon(canvas: Canvas, x: float, y: float, r: float, fill: Rgb) -> None:
    """A crescent that opens to the right: a disc less a smaller one, whose rims cross at (0.676, ±0.737) r."""
    outer, inner = math.atan2(0.737, 0.676), math.atan2(0.737, 0.676 - 0.42)
    rim = [(x + r * math.cos(t), y + r * math.sin(t)) for t in _span(outer, 2 * math.pi - outer)]
    hollow = _span(2 * math.pi - inner, inner)
    canvas.polygon(
        rim + [(x + r * (0.42 + 0.78 * math.cos(t)), y + 0.78 * r * math.sin(t)) for t in hollow], fill
    )


def _span(start: float, end: float, steps: int = 30) -> list[float]:
    return [start + (end - start) * i / (steps - 1) for i in range(steps)]


SHAPES: dict[str, Callable[[Canvas, float, float, float, Rgb], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "ring": _ring,
    "cross": _cross,
    "hexagon": _hexagon,
    "moon": _moon,
}
SHAPE_NAMES = tuple(SHAPES)
