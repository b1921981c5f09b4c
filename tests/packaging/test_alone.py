"""`alone`: a plugin installed by itself brings exactly what it needs, and works."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from swarmkernel.testing import LiveServer

ROOT = Path(__file__).parents[2]
#: Nothing of this is in a small installation, nor of what it would bring along.
HEAVY = {"torch", "diffusers", "transformers", "onnxruntime", "numpy", "accelerate", "safetensors"}

#: Distribution -> the plugins that it brings.
ALONE = {
    "swarmkernel": [],
    "swarmkernel-store-sql": ["store_sql"],
    "swarmkernel-basic-api": ["basic_api"],
    "swarmkernel-admin-api": ["accounts", "admin_api"],
    "swarmkernel-backend-api": ["backend_api"],
    "swarmkernel-models-api": ["backend_api", "models_api"],
    "swarmkernel-starter-model": ["backend_api", "models_api", "starter_model"],
    "swarmkernel-t2i-api": ["backend_api", "models_api", "t2i_api"],
}
#: The same for those that are covered by the ones above, or that bring hundreds of megabytes.
LATER = {
    "swarmkernel-accounts": ["accounts"],
    "swarmkernel-backends-remote": ["backend_api", "backends_remote", "models_api", "t2i_api"],
    "swarmkernel-backends-onnx": ["backend_api", "backends_onnx", "models_api", "t2i_api"],
    "swarmkernel-backends-torch": ["backend_api", "backends_torch", "models_api", "t2i_api"],
}
#: Distribution -> what of the heavy it needs, and which libraries of ours.
LIBRARIES = {
    "swarmkernel-t2i-api": {"numpy"},
    "swarmkernel-backends-remote": {"numpy"},
    "swarmkernel-backends-onnx": {"numpy", "swarmkernel-diffusion"},
    "swarmkernel-backends-torch": HEAVY - {"onnxruntime"} | {"swarmkernel-diffusion"},
}


@pytest.mark.parametrize(
    ("name", "plugins"),
    [*ALONE.items(), *(pytest.param(*row, marks=pytest.mark.soak) for row in LATER.items())],
)
def test_alone(name, plugins, install, projects, tmp_path):
    """A distribution alone is complete, holds no library and imports none that is heavy, lists its plugins, and serves."""
    alone = install(name)

    _check_installed(alone, name, plugins, {p.name for p in projects})
    _check_plugins(alone, plugins)
    _check_server(LiveServer(tmp_path / "data", python=alone.python), plugins)


def test_the_engine_alone(install):
    """The engine brings nothing but NumPy and attrs."""
    alone = install("swarmkernel-diffusion")

    assert {"attrs", "numpy", "swarmkernel-diffusion"} == _installed(alone)
    alone.run("python", "-c", "import swarmkernel_diffusion")


def _installed(alone):
    return {p["name"].lower() for p in json.loads(alone.pip("list", "--format", "json"))}


def _check_installed(alone, name, plugins, ours):
    found, libraries = _installed(alone), LIBRARIES.get(name, set())
    brought = {"swarmkernel", *(f"swarmkernel-{n.replace('_', '-')}" for n in plugins)}

    assert libraries & HEAVY == HEAVY & found
    assert brought | (libraries & ours) == ours & found
    assert "No broken requirements" in alone.pip("check")


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
