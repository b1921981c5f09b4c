"""The distributions of this tree, as the tests about them see them."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]


@attrs.frozen(slots=False)
class Project:
    """A folder with a pyproject.toml."""

    folder: Path

    @cached_property
    def meta(self):
        """The whole pyproject.toml."""
        return tomllib.loads((self.folder / "pyproject.toml").read_text())

    @property
    def name(self) -> str:
        """The distribution's name."""
        return self.meta["project"]["name"]

    @property
    def package(self) -> str:
        """The import package's name."""
        return self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        """The import package's folder."""
        return self.folder / "src" / self.package

    @property
    def dependencies(self) -> set[str]:
        """The distributions that it always needs."""
        return names_of(self.meta["project"]["dependencies"])

    @property
    def extras(self) -> dict[str, set[str]]:
        """The distributions that its extras add."""
        found = self.meta["project"].get("optional-dependencies", {})
        return {extra: names_of(requirements) for extra, requirements in found.items()}

    @cached_property
    def trees(self) -> dict[Path, ast.Module]:
        """Every module of the source, parsed."""
        return {path: ast.parse(path.read_text()) for path in sorted(self.source.rglob("*.py"))}


def names_of(requirements) -> set[str]:
    """The normalized names in requirement lines."""
    return {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", r).group()).lower() for r in requirements}


PROJECTS = [Project(path.parent) for path in sorted(ROOT.glob("*/pyproject.toml"))] + [
    Project(path.parent) for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))
]


@pytest.fixture(params=PROJECTS, ids=lambda p: p.folder.name)
def project(request) -> Project:
    """Each distribution in turn."""
    return request.param


@pytest.fixture(
    params=[p for p in PROJECTS if p.folder.name != "kernel" and (p.source / "routes.py").exists()],
    ids=lambda p: p.folder.name,
)
def api(request) -> Project:
    """Each distribution that has routes, in turn."""
    return request.param


@pytest.fixture(scope="session")
def projects() -> list[Project]:
    """All distributions."""
    return PROJECTS


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the tree."""
    return ROOT


@pytest.fixture(scope="session")
def tracked(root) -> Iterator[list[Path]]:
    """The files that are, or are about to be, in the repository."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := root / name).is_file()]
