"""The drawing program and the classical checks of the starter model's recipe."""

from collections.abc import Callable
from random import Random

import pytest
from training import words
from training.checks import look
from training.data import COLOR_NAMES, LAYOUTS, SHAPE_NAMES, Picture, Thing, held_out, pair, several, single
from training.evaluate import questions
from training.kinds import KINDS


def things(picture: Picture) -> list[Thing]:
    """What the labels say was drawn."""
    color, shape, _, _, second_color, second_shape = picture.labels
    found = [Thing(COLOR_NAMES[color], SHAPE_NAMES[shape])]
    if second_color >= 0:
        found.append(Thing(COLOR_NAMES[second_color], SHAPE_NAMES[second_shape]))
    return found


@pytest.mark.parametrize("kind", [single, several, pair])
def test_held_out_combinations_are_never_drawn(kind: Callable[[Random], Picture]) -> None:
    """No picture for training shows a held-out pair or triple, whatever its kind and background."""
    for seed in range(400):
        picture = kind(Random(seed))
        background = COLOR_NAMES[picture.labels[2]]
        assert not any(held_out(thing, background) for thing in things(picture)), (
            seed,
            things(picture),
            background,
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_a_function_of_its_seed(kind: str) -> None:
    """The same seed draws and captions the same, and another seed does not."""
    first, again, other = (KINDS[kind](Random(seed)) for seed in (1, 1, 2))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.caption(Random(3)) == again.caption(Random(3))
    assert first.image.tobytes() != other.image.tobytes()


def test_the_checks_see_what_was_drawn() -> None:
    """On clean drawings that are not tiny, background, foreground and shape are all read back."""
    seen = 0
    for seed in range(80):
        picture = single(Random(f"checks {seed}"))
        if LAYOUTS[picture.labels[3]] == "small":
            continue
        [thing], found = things(picture), look(picture.image)
        expected = (COLOR_NAMES[picture.labels[2]], thing.color, thing.shape)
        assert expected == (found.background, found.foreground, found.shape)
        seen += 1
    assert seen > 50


def test_the_checks_count_and_compare() -> None:
    """Drawn counts are counted, and the two centres of a pair lie as its caption says."""
    for seed in range(40):
        picture = several(Random(f"count {seed}"))
        assert LAYOUTS[picture.labels[3]] == look(picture.image).count
        picture = pair(Random(f"pair {seed}"))
        relation = str(LAYOUTS[picture.labels[3]]).removesuffix(" of")
        if relation == "inside":
            continue
        first, second = (look(picture.image).centre(thing.color) for thing in things(picture))
        assert first
        assert second
        across, down = first[0] - second[0], first[1] - second[1]
        assert {"left": -across, "right": across, "above": -down, "below": down}[relation] > 20


def test_captions_name_what_is_drawn() -> None:
    """A single shape's caption holds the colour's and a shape's word, through all its wordings."""
    for seed in range(100):
        picture = single(Random(seed))
        [thing] = things(picture)
        caption = words.dressed(Random(seed), picture.caption(Random(seed))).lower()
        assert thing.color.replace("gray", "gr") in caption
        assert any(word in caption for word in words.SYNONYMS.get(thing.shape, (thing.shape,)))


def test_plurals_are_english() -> None:
    """Phrases that end in a hissing sound take `es`, all others `s`."""
    phrases = ["red cross", "tiny blue box", "star", "crescent moon", "plus sign"]
    expected = ["red crosses", "tiny blue boxes", "stars", "crescent moons", "plus signs"]
    assert expected == [words.plural(phrase) for phrase in phrases]


def test_half_of_the_questions_are_unseen_combinations() -> None:
    """The scores ask for combinations that training showed and, apart, for ones that it never showed."""
    asked = [name for question in questions(6) for name in question.checks]
    assert 6 == asked.count("shape") == asked.count("shape, unseen combination")
    prompts = [question.prompt for question in questions(6)]
    assert prompts == [question.prompt for question in questions(6)]
    assert prompts != [question.prompt for question in questions(6, seed=1)]
