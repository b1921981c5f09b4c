"""No distribution of ours can be installed with a release that has a known hole."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The first release without the advisories that matter to a server like this one.
FLOORS = {
    "starlette": (1, 3, 1),
    "hypercorn": (0, 18),
    "h11": (0, 16),
    "h2": (4, 3),
    "pillow": (13,),
    "torch": (2, 10),
    "diffusers": (0, 38),
    "transformers": (5,),
    "pluggy": (1, 7),
}
PROJECTS = [ROOT / "kernel" / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml"))]


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_floors(project):
    """Every requirement with a floor asks for at least that release."""
    wanted = tomllib.loads(project.read_text())["project"]["dependencies"]
    found = {
        name: tuple(map(int, version.split(".")))
        for name, version in (
            re.match(r"([\w.-]+?)(?:\[.*\])?>=([\d.]+)", w).groups() for w in wanted if ">=" in w
        )
    }

    assert [] == [(name, found[name]) for name in found.keys() & FLOORS.keys() if found[name] < FLOORS[name]]


def test_the_tested_versions_are_above_the_floors():
    """The versions in constraints.txt are at or above every floor."""
    lines = (ROOT / "constraints.txt").read_text().lower().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)

    low = [n for n, floor in FLOORS.items() if tuple(map(int, pinned[n].split(".")[: len(floor)])) < floor]
    assert [] == low
