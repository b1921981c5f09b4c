"""`alone`: a plugin installed by itself brings exactly what it needs, and works."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from swarmkernel.testing import LiveServer

ROOT = Path(__file__).parents[2]
#: Nothing of this is in a small installation, nor of what it would bring along.
HEAVY = {"torch", "diffusers", "transformers", "onnxruntime", "numpy", "accelerate", "safetensors"}
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"

#: Distribution -> the plugins that it brings.
ALONE = {
    "swarmkernel": [],
    "swarmkernel-store-sql": ["store_sql"],
    "swarmkernel-basic-api": ["basic_api"],
    "swarmkernel-admin-api": ["accounts", "admin_api"],
    "swarmkernel-backend-api": ["backend_api"],
    "swarmkernel-models-api": ["backend_api", "models_api"],
    "swarmkernel-starter-model": ["backend_api", "models_api", "starter_model"],
}


@pytest.fixture(scope="session", name="wheels")
def _wheels(projects, tmp_path_factory) -> dict[str, Path]:
    """A wheel of every distribution, built from a clean copy of its folder."""
    folder = tmp_path_factory.mktemp("wheels")

    def build(project):
        copy = folder / "source" / project.folder.name
        shutil.copytree(
            project.folder, copy, ignore=shutil.ignore_patterns("*.egg-info", "build", "training", ".*")
        )
        command = [sys.executable, "-c", BUILD, str(folder)]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return project.name, folder / done.stdout.split()[-1]

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(build, projects))


@attrs.frozen
class Installation:
    """A bare environment with one distribution and what that brought."""

    folder: Path

    @property
    def bin(self) -> Path:
        """Where its commands are."""
        return self.folder / "bin"

    def run(self, *command: str) -> str:
        """What a command of this environment prints."""
        done = subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.folder,
            env={"PATH": str(self.bin), "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout


def pip(folder: Path, *args: str) -> str:
    """Run this interpreter's pip on the environment in *folder*."""
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def install(name: str, wheels: dict[str, Path], folder: Path) -> Installation:
    """Put a distribution into a bare environment: of ours the wheels just built, the rest as CI tested it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    ours = folder / "ours.txt"
    ours.write_text("".join(f"{name} @ {wheel.as_uri()}\n" for name, wheel in wheels.items()))
    constraints = ["-c", str(ours), "-c", str(ROOT / "constraints.txt")]
    pip(folder, "install", "--quiet", "--no-compile", *constraints, name)
    return Installation(folder)


@pytest.mark.parametrize("name", ALONE)
def test_alone(name, wheels, projects, tmp_path, monkeypatch):
    """A distribution alone is complete, holds and imports no heavy library, lists its plugins, and serves."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    alone = install(name, wheels, tmp_path / "venv")

    _check_installed(alone, name, {p.name for p in projects})
    _check_plugins(alone, ALONE[name])
    _check_server(LiveServer(tmp_path / "data", python=str(alone.bin / "python")), ALONE[name])


def _check_installed(alone, name, ours):
    found = {p["name"].lower() for p in json.loads(pip(alone.folder, "list", "--format", "json"))}
    brought = {"swarmkernel", *(f"swarmkernel-{n.replace('_', '-')}" for n in ALONE[name])}

    assert set() == HEAVY & found
    assert brought == ours & found
    assert "No broken requirements" in pip(alone.folder, "check")


def _check_plugins(alone, plugins):
    found = json.loads(alone.run("swarmkernel", "plugins", "--json"))

    assert [(name, None) for name in plugins] == sorted((p["name"], p["error"]) for p in found)
    assert f"{len(plugins)} plugins and " in alone.run("swarmkernel", "check")


def _check_server(server, plugins):
    server.env = {"PYTHONPROFILEIMPORTTIME": "1"}  # every import is a line in the log
    with server:
        reply = server.client(login=False).raw("GetNewSession").json()
        server.client(login=False).raw("ListBackendTypes")
    modules = re.findall(r"^import time:.*\| *([\w.]+)$", "".join(server.log), re.MULTILINE)

    if "basic_api" in plugins:
        assert re.fullmatch("[0-9a-f]{40}", reply["session_id"])
    else:
        assert "GetNewSession" in reply["error"]
    assert "swarmkernel.serve" in modules
    assert set() == {*HEAVY, "PIL"} & {module.partition(".")[0] for module in modules}


def test_wheels_hold_all(wheels, projects):
    """A wheel holds every file of its package, and nothing beside it."""
    for project in projects:
        files = {
            f"{project.package}/{path.relative_to(project.source).as_posix()}"
            for path in project.source.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
        }
        with zipfile.ZipFile(wheels[project.name]) as wheel:
            packed = {name for name in wheel.namelist() if ".dist-info/" not in name}

        assert files == packed
