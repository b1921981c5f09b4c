"""Landscapes: a sky at some time of day, a ground, and something on it."""

from collections.abc import Callable
from random import Random

import attrs

from .data import Picture
from .shapes import COLOR_NAMES, COLORS, SHAPES, Canvas, Rgb, jittered, shaded
from .words import color_word, with_article

WOOD, LEAF, SNOW, LAMP = (105, 65, 40), (50, 135, 60), (250, 252, 255), (255, 240, 170)


@attrs.frozen
class Time:
    """A time of day: the sky's colours, how bright things are, and how captions name it."""

    top: Rgb
    bottom: Rgb
    light: float
    phrases: tuple[str, ...]
    with_light: tuple[str, ...]


TIMES = {
    "day": Time(
        (95, 175, 240),
        (185, 225, 250),
        1.0,
        ("", "", " on a sunny day", " under a blue sky", " during the day"),
        (" with the sun", " and the sun", " with a yellow sun"),
    ),
    "sunset": Time(
        (240, 95, 70),
        (255, 205, 110),
        0.85,
        (" at sunset", " at sunset", " at sunset", " at dawn", " in the evening", " under an orange sky"),
        (" at sunset",),
    ),
    "night": Time(
        (12, 16, 50),
        (32, 42, 95),
        0.6,
        (" at night", " at night", " at night", " under a night sky", " in the dark"),
        (" with the moon", " under the moon", " with a moon and stars"),
    ),
}
GROUNDS = {
    "grass": ("", "", " on the grass", " on a green field", " in a meadow"),
    "hill": (" on a hill", " on a green hill"),
    "desert": (" in the desert", " in the desert", " on the sand"),
    "snow": (" in the snow", " in winter"),
    "sea": ("", " on the sea", " on the water", " in the ocean"),
}
EMPTY = {
    "grass": ("a green field", "a meadow", "a green landscape"),
    "hill": ("a green hill", "a hill", "rolling hills"),
    "desert": ("a desert", "a sandy desert", "desert landscape"),
    "snow": ("a snowy field", "a winter landscape", "a snowy landscape"),
    "sea": ("the sea", "the ocean", "a calm sea", "a seascape", "ocean waves"),
}
STARS = ((0.07, 0.3), (0.14, 0.42), (0.3, 0.1), (0.38, 0.3), (0.46, 0.06), (0.55, 0.22), (0.62, 0.08), (0.7, 0.34),
         (0.79, 0.12), (0.86, 0.26), (0.93, 0.4), (0.94, 0.07), (0.5, 0.4), (0.06, 0.08))  # fmt: skip


def paint_sky(canvas: Canvas, time: str, *, light: bool, clouds: bool) -> None:
    """The gradient, stars at night, and the sun or moon where wanted."""
    canvas.gradient(TIMES[time].top, TIMES[time].bottom)
    if time == "night":
        for x, y in STARS:
            canvas.ellipse(x, y, 0.01, 0.01, (255, 255, 230))
        if light:
            SHAPES["moon"](canvas, 0.2, 0.18, 0.1, (250, 245, 200))
    elif time == "day" and light:
        canvas.ellipse(0.82, 0.17, 0.09, 0.09, (255, 220, 60))
    elif time == "sunset":
        canvas.ellipse(0.5, 0.55, 0.14, 0.14, (255, 235, 130))
    if clouds:
        for x, y, size in ((0.5, 0.14, 0.9), (0.2, 0.24, 0.8)):
            for dx, dy, radius in ((-0.08, 0.01, 0.05), (0, -0.015, 0.065), (0.08, 0.012, 0.05)):
                canvas.ellipse(x + dx * size, y + dy * size, radius * size, radius * size, SNOW)


def paint_ground(canvas: Canvas, ground: str, light: float) -> None:
    """The lower third."""
    if ground == "hill":
        canvas.rectangle(0, 0.8, 1, 1, shaded((85, 175, 75), light))
        canvas.ellipse(0.5, 1.02, 0.75, 0.36, shaded((85, 175, 75), light))
        return
    colors = {
        "grass": (85, 175, 75),
        "desert": (225, 190, 115),
        "snow": (240, 245, 252),
        "sea": (30, 105, 190),
    }
    canvas.rectangle(0, 0.66, 1, 1, shaded(colors[ground], light))
    if ground == "sea":
        for i in range(9):
            x, y = 0.06 + (i % 3) * 0.34 + (i // 3 % 2) * 0.12, 0.73 + (i // 3) * 0.1
            canvas.rectangle(x, y, x + 0.14, y + 0.014, shaded((120, 180, 235), light))


@attrs.frozen
class Subject:
    """Something to paint on a ground: its words, once its random choices are made, and how to paint it."""

    words: Callable[[Random], str]
    paint: Callable[[Canvas, float], None]


def _house(rng: Random, x: float = 0.5, size: float = 1.2) -> Subject:
    named_wall, named_roof = rng.random() < 0.6, rng.random() < 0.4
    wall, roof = rng.choice(COLOR_NAMES), rng.choice(COLOR_NAMES)

    def words(rng: Random) -> str:
        noun = rng.choice(("house", "house", "house", "home", "cottage", "cabin"))
        start = f"{color_word(rng, wall)} {noun}" if named_wall else noun
        end = f" with {with_article(color_word(rng, roof))} roof" if named_roof else ""
        return with_article(start) + end

    def paint(canvas: Canvas, light: float) -> None:
        base, half, height = 0.8, 0.17 * size, 0.2 * size
        wall_color = COLORS[wall] if named_wall else (235, 215, 175)
        roof_color = COLORS[roof] if named_roof else (150, 60, 45)
        canvas.rectangle(x - half, base - height, x + half, base, shaded(wall_color, light))
        peak = (x, base - height - 0.17 * size)
        eaves = 1.25 * half
        canvas.polygon(
            [(x - eaves, base - height), peak, (x + eaves, base - height)], shaded(roof_color, light)
        )
        canvas.rectangle(x - 0.035 * size, base - 0.12 * size, x + 0.035 * size, base, (90, 55, 35))
        for dx in (-0.1, 0.1):
            left, top = x + (dx - 0.035) * size, base - 0.16 * size
            canvas.rectangle(left, top, left + 0.07 * size, top + 0.07 * size, LAMP)

    return Subject(words, paint)


def _round_tree(canvas: Canvas, x: float, size: float, leaf: Rgb, wood: Rgb) -> None:
    canvas.rectangle(x - 0.03 * size, 0.8 - 0.28 * size, x + 0.03 * size, 0.8, wood)
    for dx, dy in ((-0.08, -0.3), (0.08, -0.3), (0, -0.39)):
        canvas.ellipse(x + dx * size, 0.8 + dy * size, 0.12 * size, 0.12 * size, leaf)


def _pine(canvas: Canvas, x: float, size: float, leaf: Rgb, wood: Rgb) -> None:
    canvas.rectangle(x - 0.025 * size, 0.8 - 0.1 * size, x + 0.025 * size, 0.8, wood)
    for y, width in ((0.08, 0.16), (0.2, 0.13), (0.32, 0.09)):
        tip = (x, 0.8 - (y + 0.19) * size)
        canvas.polygon([(x - width * size, 0.8 - y * size), tip, (x + width * size, 0.8 - y * size)], leaf)


def _trees(rng: Random) -> Subject:
    kinds: dict[str, tuple[Rgb, tuple[str, ...]]] = {
        "round": (LEAF, ("", "", "green ")),
        "pine": ((25, 100, 60), ("pine ", "christmas ", "fir ")),
        "autumn": ((230, 125, 35), ("autumn ", "orange ")),
        "blossom": ((245, 160, 200), ("cherry blossom ", "pink ")),
    }
    kind = rng.choice(("round", *kinds))
    count = rng.choice((1, 1, 1, 2, 3))
    leaf, adjectives = kinds[kind]

    def words(rng: Random) -> str:
        adjective = rng.choice(adjectives)
        if count == 1:
            return with_article(f"{adjective}tree")
        if count == 3 and kind == "round" and rng.random() < 0.4:
            return rng.choice(("a forest", "trees", "a forest of trees"))
        return f"{'two' if count == 2 else 'three'} {adjective}trees"

    def paint(canvas: Canvas, light: float) -> None:
        tree = _pine if kind == "pine" else _round_tree
        for x in {1: (0.5,), 2: (0.3, 0.7), 3: (0.2, 0.5, 0.8)}[count]:
            tree(canvas, x, 1.35 if count == 1 else 0.9, shaded(leaf, light), shaded(WOOD, light))

    return Subject(words, paint)


def _house_and_tree(rng: Random) -> Subject:
    house = _house(rng, 0.33, 1.0)

    def words(rng: Random) -> str:
        return house.words(rng) + rng.choice((" and a tree", " next to a tree", " with a tree"))

    def paint(canvas: Canvas, light: float) -> None:
        house.paint(canvas, light)
        _round_tree(canvas, 0.78, 0.95, shaded(LEAF, light), shaded(WOOD, light))

    return Subject(words, paint)


def _mountains(_: Random) -> Subject:
    names = (
        "mountains",
        "mountains",
        "snowy mountains",
        "a mountain landscape",
        "snow capped mountains",
        "mountain peaks",
    )

    def paint(canvas: Canvas, light: float) -> None:
        for x, top, width, stone in (
            (0.73, 0.36, 0.38, (125, 130, 150)),
            (0.31, 0.25, 0.42, (105, 110, 130)),
        ):
            canvas.polygon([(x, top), (x + width, 0.84), (x - width, 0.84)], shaded(stone, light))
            cap = (0.84 - top) * 0.27
            left, right = (x - 0.27 * width, top + cap), (x + 0.27 * width, top + cap)
            zigzag = [
                right,
                (x + 0.1 * width, top + 0.75 * cap),
                (x, top + 1.15 * cap),
                (x - 0.1 * width, top + 0.75 * cap),
            ]
            canvas.polygon([(x, top), *zigzag, left], shaded(SNOW, light))
        canvas.rectangle(0, 0.8, 1, 1, shaded((85, 160, 80), light))

    return Subject(lambda rng: rng.choice(names), paint)


def _boat(rng: Random) -> Subject:
    color = rng.choice(COLOR_NAMES)

    def words(rng: Random) -> str:
        name = color_word(rng, color)
        ways = (f"a boat with {with_article(name)} sail", f"a sailboat with {name} sails",
                with_article(f"{name} sailboat"), with_article(f"{name} boat"))  # fmt: skip
        return rng.choice(ways)

    def paint(canvas: Canvas, light: float) -> None:
        x, y, sail = 0.5, 0.72, shaded(COLORS[color], light)
        canvas.polygon(
            [(x - 0.22, y), (x + 0.22, y), (x + 0.14, y + 0.11), (x - 0.14, y + 0.11)],
            shaded((130, 75, 45), light),
        )
        canvas.rectangle(x - 0.01, y - 0.42, x + 0.01, y, shaded((80, 50, 35), light))
        canvas.polygon([(x + 0.02, y - 0.41), (x + 0.22, y - 0.04), (x + 0.02, y - 0.04)], sail)
        canvas.polygon([(x - 0.02, y - 0.36), (x - 0.17, y - 0.04), (x - 0.02, y - 0.04)], sail)

    return Subject(words, paint)


def _car(rng: Random) -> Subject:
    color = rng.choice(COLOR_NAMES)

    def words(rng: Random) -> str:
        return with_article(f"{color_word(rng, color)} car") + rng.choice(
            ("", "", "", " on the road", " on a road")
        )

    def paint(canvas: Canvas, light: float) -> None:
        x, y, body, glass = 0.5, 0.82, shaded(COLORS[color], light), shaded((200, 230, 245), light)
        canvas.rectangle(0, y - 0.03, 1, y + 0.1, shaded((90, 90, 95), light))
        canvas.rectangle(x - 0.3, y - 0.19, x + 0.3, y - 0.04, body)
        canvas.polygon(
            [(x - 0.2, y - 0.18), (x - 0.12, y - 0.33), (x + 0.11, y - 0.33), (x + 0.2, y - 0.18)], body
        )
        for side in (-1, 1):
            window = [(0.14, -0.19), (0.085, -0.3), (0.015, -0.3), (0.015, -0.19)]
            canvas.polygon([(x + side * dx, y + dy) for dx, dy in window], glass)
            canvas.ellipse(x + side * 0.17, y - 0.03, 0.07, 0.07, (25, 25, 28))
            canvas.ellipse(x + side * 0.17, y - 0.03, 0.03, 0.03, (190, 190, 195))

    return Subject(words, paint)


def _snowman(rng: Random) -> Subject:
    color = rng.choice(COLOR_NAMES)
    named = rng.random() < 0.7

    def words(rng: Random) -> str:
        return "a snowman" + (f" with {with_article(color_word(rng, color))} scarf" if named else "")

    def paint(canvas: Canvas, light: float) -> None:
        for y, radius in ((0.7, 0.18), (0.46, 0.13), (0.28, 0.095)):
            canvas.ellipse(0.5, y, 1.07 * radius, 1.07 * radius, shaded((195, 208, 226), light))
            canvas.ellipse(0.5, y, radius, radius, shaded(SNOW, light))
        for x in (0.465, 0.535):
            canvas.ellipse(x, 0.26, 0.014, 0.014, (20, 20, 20))
        canvas.polygon([(0.5, 0.28), (0.61, 0.3), (0.5, 0.32)], (245, 130, 30))
        scarf = shaded(COLORS[color if named else "red"], light)
        canvas.rectangle(0.39, 0.355, 0.61, 0.4, scarf)
        canvas.rectangle(0.545, 0.37, 0.59, 0.52, scarf)

    return Subject(words, paint)


SUBJECTS: dict[Callable[[Random], Subject], tuple[str, ...]] = {
    _house: ("grass", "hill", "snow", "desert"),
    _trees: ("grass", "hill", "snow", "desert"),
    _house_and_tree: ("grass", "snow"),
    _mountains: ("grass",),
    _boat: ("sea",),
    _car: ("grass", "desert", "snow"),
    _snowman: ("snow",),
}
"""What there is to see, with the grounds it may stand on."""


def scene(rng: Random) -> Picture:
    """A landscape; one in eight is empty."""
    time = rng.choice(("day", "day", "sunset", "night"))
    lit = rng.random() < 0.4
    clouds = time == "day" and rng.random() < 0.3
    choice = rng.choice(list(SUBJECTS)) if rng.random() < 0.875 else None
    ground = rng.choice(SUBJECTS[choice] if choice else list(EMPTY))
    subject = choice(rng) if choice else None
    canvas = Canvas(jittered(rng, TIMES[time].top))
    light = TIMES[time].light * rng.uniform(0.96, 1.0)
    paint_sky(canvas, time, light=lit, clouds=clouds)
    paint_ground(canvas, ground, light)
    if subject:
        subject.paint(canvas, light)
    implied = choice in (_mountains, _snowman, _boat)

    def caption(rng: Random) -> str:
        text = subject.words(rng) if subject else rng.choice(EMPTY[ground])
        if subject and not (implied and rng.random() < 0.7) and choice is not _mountains:
            text += rng.choice(GROUNDS[ground])
        text += rng.choice(TIMES[time].phrases)
        if lit and time != "sunset":
            text += rng.choice(TIMES[time].with_light)
        if clouds:
            text += rng.choice((" with clouds", " and white clouds", " with white clouds"))
        return text

    return Picture(canvas.finished(), caption)
