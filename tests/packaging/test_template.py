"""What a third party starts from: built, installed beside our wheels, tested and used."""

import io
import shutil
import subprocess
import sys
import time

import pytest
from PIL import Image

from swarmkernel.testing import LiveServer


def test_it_is_what_new_writes(root, tmp_path):
    """`template/` is what `swarmkernel plugins new example --kind backend` writes."""
    command = [sys.executable, "-m", "swarmkernel", "plugins", "new", "example", "--kind", "backend"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    assert files(tmp_path / "example") == files(root / "template"), "run `make docs`"


def files(folder):
    """Path -> content of what is in a folder, caches aside."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)
    }


@pytest.fixture(name="venv")
def _venv(root, build, install):
    """An environment with wheels of ours, and of the template."""
    wheel = build(root / "template")
    return install(f"swarmkernel-example[testing] @ {wheel.as_uri()}")


def test_template(venv, root, tmp_path):
    """The installed package passes `check` and its own tests, and its backend paints for a client of the real server."""
    shutil.copytree(root / "template" / "tests", tmp_path / "own" / "tests")
    shutil.copy(root / "template" / "pyproject.toml", tmp_path / "own")
    venv.run("swarmkernel", "plugins", "check", "example")
    passed = venv.run("python", "-m", "pytest", "-q", "-W", "error", folder=tmp_path / "own")
    with LiveServer(tmp_path / "data", ["--strict"], python=venv.python) as server:
        picture = painted(server.client())

    assert " passed in " in passed
    assert ((128, 64), 2) == (picture.size, len(picture.getcolors()))


def painted(client):
    """A picture by a new backend of the template's type."""
    backend = client.post("AddNewBackend", type_id="example")
    until = time.monotonic() + 60
    while client.post("ListBackends")[str(backend["id"])]["status"] != "running":
        assert time.monotonic() < until
        time.sleep(0.1)
    (address,) = client.post("GenerateText2Image", images=1, prompt="any", width=128, height=64)["images"]
    return Image.open(io.BytesIO(client.http.get(f"/{address}").content)).convert("RGB")
