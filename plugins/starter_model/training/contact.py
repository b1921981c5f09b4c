"""A contact sheet of 24 fixed prompts with their captions; a star marks combinations that training never showed."""

import argparse
import textwrap
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from . import common
from .evaluate import draw, load
from .shapes import SIZE

PROMPTS = (
    "a red circle on a blue background",
    "a purple star on a white background *",
    "an orange heart on a cyan background *",
    "a green diamond on a pink background *",
    "a large yellow ring",
    "a small black cross in the top left corner",
    "two green squares",
    "three red stars",
    "four blue hearts on a yellow background",
    "a red circle to the left of a blue square",
    "a yellow star above a green hexagon",
    "a white triangle inside a red circle",
    "a house on a green hill on a sunny day",
    "a red house with a blue roof at night",
    "snowy mountains at sunset",
    "a sailboat with red sails on the sea",
    "a green car in the desert",
    "a snowman with a red scarf",
    "an orange cat",
    "a blue dog on a pink background",
    "a purple flower",
    "a happy smiley face on a blue background",
    "a rainbow",
    "a night sky with the moon",
)
COLUMNS, CELL, CAPTION = 6, SIZE + 20, 34


def sheet(images: list[Image.Image]) -> Image.Image:
    """The images in rows of six, each above its prompt."""
    rows = (len(images) + COLUMNS - 1) // COLUMNS
    page = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + CAPTION)), "white")
    pen = ImageDraw.Draw(page)
    for i, (image, prompt) in enumerate(zip(images, PROMPTS, strict=True)):
        x, y = i % COLUMNS * CELL + 10, i // COLUMNS * (CELL + CAPTION) + 10
        page.paste(image, (x, y))
        pen.rectangle([x - 1, y - 1, x + SIZE, y + SIZE], outline=(120, 120, 120))
        pen.multiline_text(
            (x, y + SIZE + 3), "\n".join(textwrap.wrap(prompt, 23)), fill="black", spacing=1, font_size=10
        )
    return page


def main() -> None:
    """`--model FOLDER --out FILE.png`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=common.SHIPPED)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    sheet(draw(load(args.model), [prompt.removesuffix(" *") for prompt in PROMPTS], seed=77)).save(args.out)


if __name__ == "__main__":
    main()
