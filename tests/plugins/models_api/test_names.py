"""Clients spell names of models as they like."""

from pathlib import Path

import pytest

from swarmkernel_models_api import Model
from swarmkernel_models_api.listing import list_below
from swarmkernel_models_api.names import Shelf


def model(name, **values):
    return Model(name, "Stable-Diffusion", Path("/m") / name, values.pop("title", name), **values)


NAMES = [
    "OfficialStableDiffusion/sd_xl_base_1.0.safetensors",
    "more/deep/sd_xl_base_1.0_copy.safetensors",
    "old.ckpt",
    "old.safetensors",
    "starter",
    "My Model [v2].safetensors",
]
MODELS = [model(name, problem="pickle" if name.endswith("ckpt") else None) for name in NAMES]
SHELF = Shelf.of({item.name: item for item in MODELS})


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("more/deep/sd_xl_base_1.0_copy.safetensors", "sd_xl_base"),
        ("OfficialStableDiffusion/sd_xl_base_1.0.safetensors", "diffusion / sd_xl_base"),
        ("OfficialStableDiffusion/sd_xl_base_1.0.safetensors", "officialstablediffusion\\SD_XL_base_1.0"),
        ("more/deep/sd_xl_base_1.0_copy.safetensors", "base_1.0_copy.safetensors"),
        ("old.safetensors", "old"),
        ("old.ckpt", "old.ckpt"),
        ("starter", "Starter.safetensors"),
        ("My Model [v2].safetensors", "mymodelv2"),
        (None, "nothing like it"),
        (None, ""),
        (None, " .safetensors"),
        (None, "../../etc/passwd"),
    ],
)
def test_find(expected, text):
    """A name means the model of that name, or else the shortest one that contains it."""
    found = SHELF.find(text, lambda _: True)
    assert expected == (found and found.name)


def test_exact():
    """Only the ending may be left out or added where the exact name is wanted."""
    assert "old.safetensors" == SHELF.get("old").name
    assert "starter" == SHELF.get("starter.safetensors").name
    assert SHELF.get("OLD") is None


def test_what_is_not_allowed_is_not_found():
    """A hidden model is no candidate, so the next best one is found."""
    found = SHELF.find("sd_xl_base", lambda item: not item.name.startswith("more/"))
    assert NAMES[0] == found.name


def below(path="", depth=1, sort="name", reverse=False):
    found = list_below(MODELS, path, depth, sort, reverse=reverse)
    return found.folders, [item.name for item in found.models]


def test_listing_by_depth():
    """Files show down to the depth, folders too, even if their files lie deeper."""
    top = ["My Model [v2].safetensors", "old.ckpt", "old.safetensors", "starter"]
    assert (["more", "OfficialStableDiffusion"], top) == below(depth=1)
    assert ["more", "more/deep", "OfficialStableDiffusion"] == below(depth=2)[0]
    assert NAMES[0] in below(depth=2)[1]
    assert NAMES[1] not in below(depth=2)[1]
    assert NAMES[1] in below(depth=999)[1]
    assert below(depth=1) == below(depth=-5)


@pytest.mark.parametrize("path", ["more", "/more/", "more\\", "more//"])
def test_listing_below_a_folder(path):
    """Folders are relative to the path, however it is written."""
    assert (["deep"], []) == below(path)
    assert (["deep"], [NAMES[1]]) == below(path, 2)


def test_listing_does_not_take_a_sibling_for_a_folder():
    """`mor` is not the folder `more`."""
    assert ([], []) == below("mor", 20)


def test_sorting():
    """Dates are newest first, names and titles ascending, and each can be reversed."""
    models = [
        model("b", title="x", modified=1, created=3),
        model("A", title="z", modified=2, created=2),
        model("c", title="Y", modified=2, created=1),
    ]

    def order(sort, *, reverse=False):
        return [item.name for item in list_below(models, "", 1, sort, reverse=reverse).models]

    assert ["A", "b", "c"] == order("name")
    assert ["c", "b", "A"] == order("name", reverse=True)
    assert ["b", "c", "A"] == order("title")
    assert ["A", "c", "b"] == order("datemodified")
    assert ["b", "A", "c"] == order("datecreated")
