"""Single things in the middle of a plain background: animals, faces, fruit and the like."""

from collections.abc import Callable
from random import Random

import attrs

from .data import Picture
from .shapes import COLOR_NAMES, COLORS, SHAPES, Canvas, Rgb, jittered, shaded, turned
from .words import color_word, on_background, with_article

INK, WHITE, CREAM, SKY = (25, 25, 28), (250, 250, 250), (245, 245, 215), (185, 225, 250)
X, Y = 0.5, 0.5


def _ink(color: Rgb) -> Rgb:
    """A line colour that shows on the given one."""
    return INK if sum(color) > 150 else (235, 235, 240)


def _eyes(canvas: Canvas, dx: float, y: float, radius: float, pupil: float) -> None:
    for side in (-1, 1):
        canvas.ellipse(X + side * dx, y, radius, 1.15 * radius, CREAM)
        canvas.ellipse(X + side * dx, y, pupil, 1.2 * pupil, INK)


def _flower(canvas: Canvas, color: Rgb) -> None:
    canvas.rectangle(X - 0.02, Y, X + 0.02, 1, (45, 140, 60))
    canvas.ellipse(X + 0.11, Y + 0.32, 0.1, 0.04, (45, 140, 60))
    for i in range(6):
        canvas.ellipse(*turned(X, Y - 0.08, 0.18, i / 6), 0.11, 0.11, color)
    canvas.ellipse(
        X, Y - 0.08, 0.1, 0.1, (150, 85, 35) if color[0] > 200 and color[2] < 90 else (250, 205, 50)
    )


def _face(canvas: Canvas, color: Rgb, smile: tuple[float, float, float, float], start: float) -> None:
    canvas.ellipse(X, Y, 0.36, 0.36, color)
    for side in (-1, 1):
        canvas.ellipse(X + side * 0.13, Y - 0.09, 0.04, 0.06, _ink(color))
    canvas.arc(smile, start, start + 140, 0.04, _ink(color))


def _happy(canvas: Canvas, color: Rgb) -> None:
    _face(canvas, color, (X - 0.2, Y - 0.16, X + 0.2, Y + 0.22), 20)


def _sad(canvas: Canvas, color: Rgb) -> None:
    _face(canvas, color, (X - 0.18, Y + 0.1, X + 0.18, Y + 0.44), 200)


def _cat(canvas: Canvas, color: Rgb) -> None:
    for side in (-1, 1):
        ear = [(0.31, -0.38), (0.29, -0.02), (0.06, -0.22)]
        canvas.polygon([(X + side * dx, Y + dy) for dx, dy in ear], color)
    canvas.ellipse(X, Y + 0.04, 0.32, 0.28, color)
    _eyes(canvas, 0.13, Y, 0.065, 0.03)
    for side in (-1, 1):
        for k in (-1, 1):
            start, end = (X + side * 0.12, Y + 0.13 + k * 0.015), (X + side * 0.4, Y + 0.13 + k * 0.05)
            canvas.line(start, end, 0.014, _ink(color))
    canvas.polygon([(X - 0.04, Y + 0.08), (X + 0.04, Y + 0.08), (X, Y + 0.13)], (235, 110, 140))


def _dog(canvas: Canvas, color: Rgb) -> None:
    canvas.ellipse(X, Y + 0.02, 0.28, 0.31, color)
    ear = shaded(color, 0.6) if sum(color) > 150 else (70, 70, 75)
    for side in (-1, 1):
        canvas.ellipse(X + side * 0.28, Y - 0.04, 0.1, 0.22, ear)
    canvas.ellipse(X, Y + 0.15, 0.14, 0.13, (240, 225, 205))
    _eyes(canvas, 0.12, Y - 0.07, 0.05, 0.03)
    canvas.ellipse(X, Y + 0.09, 0.055, 0.04, INK)
    canvas.ellipse(X, Y + 0.235, 0.04, 0.055, (235, 90, 110))


def _fish(canvas: Canvas, color: Rgb) -> None:
    fin = shaded(color, 0.65)
    canvas.polygon([(X + 0.14, Y), (X + 0.38, Y - 0.19), (X + 0.38, Y + 0.19)], fin)
    canvas.polygon([(X - 0.06, Y - 0.14), (X + 0.12, Y - 0.14), (X + 0.1, Y - 0.28)], fin)
    canvas.ellipse(X - 0.05, Y, 0.28, 0.19, color)
    canvas.ellipse(X - 0.18, Y - 0.05, 0.045, 0.045, WHITE)
    canvas.ellipse(X - 0.185, Y - 0.05, 0.025, 0.025, INK)
    for i in range(3):
        canvas.ellipse(0.12 + i * 0.03, 0.36 - i * 0.12, 0.025, 0.025, (190, 225, 250))


def _balloon(canvas: Canvas, color: Rgb) -> None:
    canvas.line((X, Y + 0.2), (X, 1.0), 0.016, (70, 70, 75))
    canvas.ellipse(X, Y - 0.08, 0.24, 0.3, color)
    canvas.polygon([(X, Y + 0.19), (X - 0.04, Y + 0.27), (X + 0.04, Y + 0.27)], color)


def _sun(canvas: Canvas, color: Rgb) -> None:
    for i in range(12):
        canvas.line(turned(X, Y, 0.25, i / 12), turned(X, Y, 0.4, i / 12), 0.035, (255, 200, 40))
    canvas.ellipse(X, Y, 0.2, 0.2, color)


def _rainbow(canvas: Canvas, _: Rgb) -> None:
    canvas.rectangle(0, 0.78, 1, 1, (85, 175, 75))
    for i, name in enumerate(("red", "orange", "yellow", "green", "blue", "purple")):
        canvas.half_disc(X, 0.78, 0.47 - i * 0.05, COLORS[name])
    canvas.half_disc(X, 0.78, 0.17, SKY)


def _apple(canvas: Canvas, color: Rgb) -> None:
    for side in (-1, 1):
        canvas.ellipse(X + side * 0.11, Y + 0.05, 0.2, 0.26, color)
    canvas.line((X, Y - 0.12), (X + 0.03, Y - 0.32), 0.035, (105, 65, 40))
    canvas.ellipse(X + 0.12, Y - 0.29, 0.09, 0.04, (60, 160, 70))


def _night_sky(canvas: Canvas, color: Rgb) -> None:
    for x, y in ((0.08, 0.14), (0.2, 0.8), (0.3, 0.1), (0.12, 0.5), (0.85, 0.2), (0.9, 0.6), (0.75, 0.85), (0.5, 0.9),
                 (0.62, 0.1), (0.93, 0.92), (0.35, 0.68), (0.78, 0.45)):  # fmt: skip
        SHAPES["star"](canvas, x, y, 0.035, color)


def _moonlit(canvas: Canvas, color: Rgb) -> None:
    _night_sky(canvas, color)
    canvas.ellipse(X, 0.42, 0.24, 0.24, (14, 18, 55))
    SHAPES["moon"](canvas, X, 0.42, 0.22, color)


def _robot(canvas: Canvas, color: Rgb) -> None:
    dark = shaded(color, 0.6) if sum(color) > 150 else (70, 70, 75)
    canvas.line((X, Y - 0.2), (X, Y - 0.36), 0.03, dark)
    canvas.ellipse(X, Y - 0.38, 0.05, 0.05, (220, 38, 38))
    canvas.rectangle(X - 0.28, Y - 0.21, X + 0.28, Y + 0.3, color)
    _eyes(canvas, 0.13, Y - 0.04, 0.07, 0.035)
    for side in (-1, 1):
        canvas.rectangle(X + side * 0.32 - 0.04, Y - 0.07, X + side * 0.32 + 0.04, Y + 0.11, dark)
    canvas.rectangle(X - 0.15, Y + 0.13, X + 0.15, Y + 0.2, CREAM)


def _butterfly(canvas: Canvas, color: Rgb) -> None:
    dark = shaded(color, 0.65) if sum(color) > 150 else (70, 70, 75)
    for side in (-1, 1):
        canvas.line((X, Y - 0.18), (X + side * 0.1, Y - 0.38), 0.016, INK)
        canvas.ellipse(X + side * 0.19, Y - 0.12, 0.18, 0.19, color)
        canvas.ellipse(X + side * 0.15, Y + 0.17, 0.14, 0.15, dark)
        canvas.ellipse(X + side * 0.2, Y - 0.12, 0.065, 0.075, CREAM)
    canvas.ellipse(X, Y, 0.035, 0.26, INK)


def _eye(canvas: Canvas, color: Rgb) -> None:
    canvas.ellipse(X, Y, 0.41, 0.25, INK)
    canvas.ellipse(X, Y, 0.38, 0.22, WHITE)
    canvas.ellipse(X, Y, 0.18, 0.18, color)
    canvas.ellipse(X, Y, 0.08, 0.08, (15, 15, 15))
    canvas.ellipse(X - 0.06, Y - 0.06, 0.03, 0.03, WHITE)


@attrs.frozen
class Icon:
    """How to draw it, its names, its usual background, and its colours (one of them may go unnamed)."""

    draw: Callable[[Canvas, Rgb], None]
    names: tuple[str, ...]
    background: Rgb = WHITE
    colors: tuple[str, ...] = COLOR_NAMES
    usual: str | None = None
    alone: bool = False
    """Whether it fills the picture: no colour and no background is ever named."""


ICONS = (
    Icon(_flower, ("flower", "flower", "daisy", "blossom"), SKY, usual="pink"),
    Icon(_happy, ("smiley face", "smiley", "happy face", "smiling face", "happy smiley face"), usual="yellow"),
    Icon(_sad, ("sad face", "sad smiley", "sad smiley face"), usual="yellow"),
    Icon(_cat, ("cat", "cat", "cat face", "kitten", "cute cat"), usual="orange"),
    Icon(_dog, ("dog", "dog", "dog face", "puppy", "cute dog"), usual="brown"),
    Icon(_fish, ("fish", "fish", "fish in the water", "fish swimming", "fish in the sea"), (60, 150, 220),
         tuple(c for c in COLOR_NAMES if c not in ("blue", "cyan")), usual="orange"),
    Icon(_balloon, ("balloon", "balloon", "balloon in the sky", "party balloon"), (150, 205, 245), usual="red"),
    Icon(_apple, ("apple", "apple", "apple fruit"), WHITE, ("red", "green", "yellow"), usual="red"),
    Icon(_robot, ("robot", "robot", "robot head", "robot face", "cute robot"), usual="gray"),
    Icon(_butterfly, ("butterfly", "butterfly", "pretty butterfly"), SKY, usual="orange"),
    Icon(_eye, ("eye", "eye", "eyeball"), usual="blue"),
    Icon(_sun, ("the sun", "a sun", "the sun in a blue sky", "a shining sun", "a bright yellow sun"), (110, 185, 245),
         ("yellow",), alone=True),
    Icon(_rainbow, ("a rainbow", "a rainbow", "a rainbow in the sky", "a colorful rainbow", "a rainbow over a field"), SKY,
         alone=True),
    Icon(_night_sky, ("a starry sky", "a night sky with stars", "stars in the night sky", "a starry night",
                      "space with stars", "the night sky"), (14, 18, 55), ("yellow",), alone=True),
    Icon(_moonlit, ("the moon and stars", "a night sky with the moon", "the moon in the night sky",
                    "a starry night with a moon"), (14, 18, 55), ("yellow",), alone=True),
)  # fmt: skip


def icon(rng: Random) -> Picture:
    """One thing; its colour and background may or may not be named."""
    chosen = rng.choices(ICONS, [1 if one.alone else 2 for one in ICONS])[0]
    named = not chosen.alone and rng.random() < 0.45
    color_named = not chosen.alone and (chosen.usual is None or rng.random() < 0.75)
    color = rng.choice(chosen.colors) if color_named or not chosen.usual else chosen.usual
    background = rng.choice([name for name in COLOR_NAMES if name != color])
    plain = COLORS["gray"] if color == "white" and chosen.background == WHITE else chosen.background
    canvas = Canvas(jittered(rng, COLORS[background] if named else plain))
    chosen.draw(canvas, jittered(rng, COLORS[color]))

    def caption(rng: Random) -> str:
        name = rng.choice(chosen.names)
        if chosen.alone:
            return name
        text = with_article(f"{color_word(rng, color)} {name}" if color_named else name)
        return text + (on_background(rng, background) if named else "")

    return Picture(canvas.finished(), caption)
