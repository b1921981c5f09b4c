"""The distributions of this tree, as the tests about them see them."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"


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


PROJECTS = [Project(path.parent) for path in sorted(ROOT.glob("kernel/pyproject.toml"))] + [
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


@attrs.frozen
class Installation:
    """A bare environment with one distribution and what that brought."""

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    def run(self, *command: str, folder: Path | None = None) -> str:
        """What a command of this environment prints."""
        bin_ = self.folder / "bin"
        env = {"PATH": f"{bin_}:/usr/bin:/bin", "HOME": str(self.folder)}
        return _output([bin_ / command[0], *command[1:]], cwd=folder or self.folder, env=env)

    def pip(self, *args: str) -> str:
        """Run this process's pip on the environment."""
        return _output([sys.executable, "-m", "pip", "--python", self.python, *args])


def _output(command, **kwargs) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def _built(source: Path, folder: Path) -> Path:
    """A wheel, built from a clean copy of a folder."""
    copy = folder / "source" / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.egg-info", "build", "training", ".*"))
    return folder / _output([sys.executable, "-c", BUILD, str(folder)], cwd=copy).split()[-1]


@pytest.fixture(scope="session")
def wheels(projects, tmp_path_factory) -> dict[str, Path]:
    """A wheel of every distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(lambda project: (project.name, _built(project.folder, folder)), projects))


@pytest.fixture
def build(tmp_path):
    """Build a wheel of a folder."""
    return lambda source: _built(source, tmp_path / "wheels")


@pytest.fixture
def install(wheels, tmp_path, monkeypatch):
    """Put distributions into a bare environment: of ours the wheels just built, the rest as CI tested it."""
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def installed(*names: str) -> Installation:
        venv = Installation(tmp_path / "venv")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv.folder], check=True)
        ours = venv.folder / "ours.txt"
        ours.write_text("".join(f"{name} @ {wheel.as_uri()}\n" for name, wheel in wheels.items()))
        constraints = ["-c", str(ours), "-c", str(ROOT / "constraints.txt")]
        venv.pip("install", "--quiet", "--no-compile", *constraints, *names)
        return venv

    return installed
