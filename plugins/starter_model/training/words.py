"""Captions: articles, synonyms, phrases for places and backgrounds, and the style words around them."""

from random import Random

SYNONYMS = {
    "circle": ("circle", "circle", "circle", "disc", "dot", "ball"),
    "moon": ("moon", "crescent moon", "crescent"),
    "cross": ("cross", "cross", "plus sign"),
    "ring": ("ring", "ring", "donut"),
    "square": ("square", "square", "square", "box"),
}
SIZES = {"small": ("small", "small", "tiny", "little"), "large": ("large", "large", "big", "huge")}
NUMBERS = {
    2: ("two", "two", "two", "a pair of", "2"),
    3: ("three", "three", "three", "3"),
    4: ("four", "four", "four", "4"),
}
RELATIONS = {
    "left": (" to the left of ", " to the left of ", " and ", " and ", " left of ", " next to "),
    "right": (" to the right of ", " to the right of ", " on the right of ", " right of "),
    "above": (" above ", " above ", " on top of ", " over "),
    "below": (" below ", " below ", " under "),
    "inside": (" inside ",),
}
_BACKGROUND = (
    " on a {} background",
    " on a {} background",
    " with a {} background",
    " against a {} background",
    " on {}",
    ", {} background",
)
_BEFORE = (
    "a picture of ",
    "an image of ",
    "a drawing of ",
    "an illustration of ",
    "a photo of ",
    "a painting of ",
    "draw ",
    "icon of ",
    "a simple drawing of ",
    "a beautiful picture of ",
    "a cartoon of ",
)
_AFTER = (
    ", flat design",
    ", minimalist",
    ", simple",
    ", vector art",
    ", digital art",
    ", high quality",
    ", highly detailed",
    ", 4k",
    ", masterpiece, best quality",
    ", clean illustration",
)
_NEGATIVE = (
    "blurry, low quality",
    "blurry",
    "low quality",
    "bad quality, worst quality",
    "ugly, deformed",
    "text, watermark",
    "bad anatomy",
    "blurry, bad, noisy, jpeg artifacts",
    "lowres, worst quality, low quality, watermark",
)


def with_article(phrase: str) -> str:
    """`a red circle`, `an orange cat`."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def color_word(rng: Random, color: str) -> str:
    """The colour's name; gray is spelled both ways."""
    return rng.choice(("gray", "grey")) if color == "gray" else color


def shape_word(rng: Random, shape: str) -> str:
    """The shape's name or a synonym."""
    return rng.choice(SYNONYMS.get(shape, (shape,)))


def plural(phrase: str) -> str:
    """The plural of a phrase that ends in a shape's name: `red crosses`."""
    return phrase + ("es" if phrase.endswith(("s", "x")) else "s")


def on_background(rng: Random, color: str) -> str:
    """One of the ways to name the background."""
    return rng.choice(_BACKGROUND).format(color_word(rng, color))


def at_place(rng: Random, place: str) -> str:
    """One of the ways to name a place such as `left`, `top right` or `center`."""
    if place == "center":
        return rng.choice((" in the center", " in the middle", " at the center"))
    if " " in place:
        return rng.choice(
            (f" in the {place} corner", f" in the {place} corner", f" in the {place}", f" at the {place}")
        )
    ways = [f" at the {place}", f" at the {place}"]
    if place == "top":
        ways += [" near the top", " in the upper part"]
    elif place == "bottom":
        ways += [" near the bottom", " in the lower part"]
    else:
        ways += [f" on the {place}", f" on the {place} side"]
    return rng.choice(ways)


def dressed(rng: Random, caption: str) -> str:
    """The caption, sometimes without its article, with style words around it, a capital or a full stop."""
    if rng.random() < 0.12:
        caption = caption.removeprefix("a ").removeprefix("an ")
    elif rng.random() < 0.3:
        caption = rng.choice(_BEFORE) + caption
    if rng.random() < 0.3:
        caption += rng.choice(_AFTER)
    if rng.random() < 0.08:
        caption = caption[0].upper() + caption[1:]
    if rng.random() < 0.07:
        caption += "."
    return caption


def null_caption(rng: Random) -> str:
    """What the unconditional branch sees: mostly nothing, some negative prompts, some unknown words."""
    chance = rng.random()
    if chance < 0.75:
        return ""
    if chance < 0.92:
        return rng.choice(_NEGATIVE)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(rng.randint(1, 5)))
