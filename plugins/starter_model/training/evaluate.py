"""Prompt-following scores of a model folder: guidance 4, 20 Euler steps, classical checks (`checks.py`)."""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import attrs
import torch
from diffusers import StableDiffusionPipeline
from PIL.Image import Image

from . import common
from .checks import Seen, look
from .data import HELD_OUT_PAIRS, Thing, any_thing, held_out, plain_background
from .shapes import COLOR_NAMES, SIZE
from .words import plural, with_article

STEPS = 20
GUIDANCE = 4.0
NUMBERS = {2: "two", 3: "three", 4: "four"}
PHRASES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
MARGIN = 0.15 * SIZE
GATE = {
    "background colour": 97,
    "foreground colour": 97,
    "shape": 85,
    "count 2-4": 75,
    "two objects: both colours": 90,
    "two objects: relation": 70,
}


@attrs.frozen
class Question:
    """A prompt and what must be true of its image, by the name of the score."""

    prompt: str
    checks: dict[str, Callable[[Seen], bool]]


def one_shape(thing: Thing, background: str, note: str = "") -> Question:
    """`a red circle on a blue background`."""
    return Question(
        f"{with_article(f'{thing.color} {thing.shape}')} on a {background} background",
        {
            "background colour" + note: lambda seen: seen.background == background,
            "foreground colour" + note: lambda seen: seen.foreground == thing.color,
            "shape" + note: lambda seen: seen.shape == thing.shape,
        },
    )


def several(thing: Thing, count: int) -> Question:
    """`three red stars`."""
    prompt = f"{NUMBERS[count]} {thing.color} {plural(thing.shape)}"
    return Question(prompt, {"count 2-4": lambda seen: seen.count == count})


def pair(first: Thing, second: Thing, relation: str) -> Question:
    """`a red circle to the left of a blue square`."""
    one, other = (with_article(f"{thing.color} {thing.shape}") for thing in (first, second))

    def both(seen: Seen) -> bool:
        return seen.centre(first.color) is not None and seen.centre(second.color) is not None

    def related(seen: Seen) -> bool:
        here, there = seen.centre(first.color), seen.centre(second.color)
        if here is None or there is None:
            return False
        right, down = here[0] - there[0], here[1] - there[1]
        ahead = {"left": -right, "right": right, "above": -down, "below": down}[relation]
        return ahead > MARGIN

    checks: dict[str, Callable[[Seen], bool]] = {
        "two objects: both colours": both,
        "two objects: relation": related,
    }
    return Question(f"{one} {PHRASES[relation]} {other}", checks)


def _things(rng: Random, count: int = 1, *, seen: bool = True) -> tuple[list[Thing], str]:
    """Things of different colours and a background; `seen`: such as training showed, or such as it never did."""
    while True:
        things = [any_thing(rng) for _ in range(count)]
        background = rng.choice(COLOR_NAMES) if count == 1 else plain_background(*things)
        fresh = any(held_out(thing, background) for thing in things)
        if fresh != seen and len({background, *(thing.color for thing in things)}) == count + 1:
            return things, background


def questions(number: int, seed: int = 2026) -> Iterator[Question]:
    """`number` prompts of each sort. Half of the single shapes are combinations that training never showed."""
    rng = Random(seed)
    unseen_pairs = sorted(HELD_OUT_PAIRS)
    for i in range(number):
        [thing], background = _things(rng)
        yield one_shape(thing, background)
        thing = Thing(*unseen_pairs[i % len(unseen_pairs)])
        background = rng.choice([color for color in COLOR_NAMES if color != thing.color])
        if i % 2:
            [thing], background = _things(rng, seen=False)
        yield one_shape(thing, background, ", unseen combination")
        yield several(_things(rng)[0][0], rng.choice(list(NUMBERS)))
        (first, second), _ = _things(rng, 2)
        yield pair(first, second, rng.choice(list(PHRASES)))


def draw(pipe: StableDiffusionPipeline, prompts: list[str], seed: int = 5_000_000) -> list[Image]:
    """One image of each prompt, in batches of 16, each from its own seed."""
    images: list[Image] = []
    for start in range(0, len(prompts), 16):
        part = prompts[start : start + 16]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
        images += pipe(part, generator=generators, **settings).images
    return images


def scores(pipe: StableDiffusionPipeline, number: int, wrong: list[str]) -> dict[str, tuple[float, int]]:
    """Percent and number of images, by score; `wrong` collects the prompts that failed."""
    asked = list(questions(number))
    results: dict[str, list[bool]] = defaultdict(list)
    for question, image in zip(asked, draw(pipe, [q.prompt for q in asked]), strict=True):
        seen = look(image)
        for name, check in question.checks.items():
            results[name].append(check(seen))
            if not results[name][-1]:
                wrong.append(
                    f"{name}: {question.prompt}, seen {seen.foreground} {seen.shape} on {seen.background}"
                )
    return {name: (100 * sum(found) / len(found), len(found)) for name, found in results.items()}


def load(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in float32, without a progress bar."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main() -> None:
    """`--model FOLDER`: print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=common.SHIPPED)
    parser.add_argument("--number", type=int, default=100, help="prompts of each sort")
    parser.add_argument("--show-wrong", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    wrong: list[str] = []
    for name, (percent, number) in scores(load(args.model), args.number, wrong).items():
        goal = GATE.get(name.split(",")[0])
        print(f"| {name} | {goal} % | {percent:.0f} % of {number} |")
    for line in wrong[: args.show_wrong]:
        print(line)


if __name__ == "__main__":
    main()
