"""A server without onnxruntime whose backend runs in a second environment that has it, set up as docs/operations.md says."""

import io
import json
import os
import re
import subprocess
import time

import attrs
import pytest
from PIL import Image

from swarmkernel.testing import LiveServer

#: The server's environment, but for what these bring, and for what the page installs.
SERVER = (
    "swarmkernel-store-sql",
    "swarmkernel-basic-api",
    "swarmkernel-t2i-api",
    "swarmkernel-starter-model",
)
#: What the engine alone needs.
ENGINE = {"onnxruntime", "swarmkernel-diffusion", "tokenizers"}


@pytest.fixture(name="page", scope="module")
def _page(root):
    """What operations.md says about interpreters: its commands, and the table of the settings file."""
    section = (root / "docs" / "operations.md").read_text().partition("\n## Interpreters\n")[2]
    return re.search("```sh\n(.*?)```", section, re.DOTALL)[1], re.search(
        "```toml [^\n]*\n(.*?)```", section, re.DOTALL
    )[1]


@pytest.mark.soak
def test_two_environments(page, install, tmp_path):
    """A backend of the type `onnx` draws the starter model's picture in the environment that the settings name."""
    commands, table = (text.replace("/opt/", f"{tmp_path}/") for text in page)
    server = install(*SERVER, "pip")
    other = attrs.evolve(server, folder=tmp_path / "onnx")
    _follow(commands, server, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "swarmkernel.toml").write_text(f"[backend_api]\nmax_init_attempts = 0\n\n{table}")

    assert ENGINE <= modules(other)
    assert set() == ENGINE & modules(server)
    with LiveServer(tmp_path / "data", ["--strict"], python=server.python) as live:
        client = live.client()
        assert ("errored", True) == _settled(client)
        client.post("EditBackend", backend_id=0, title="", settings={"python": "onnx"})
        assert ("running", False) == _settled(client)
        picture = _picture(client)
    red, green, blue = picture.resize((4, 4)).getpixel((1, 1))
    assert red > 150 > max(green, blue) + 40


def _follow(commands, server, folder):
    """Run the page's commands where the server's environment is the active one, with the wheels of this tree."""
    constraints = f"{server.folder / 'ours.txt'}"
    env = {k: v for k, v in os.environ.items() if k.startswith("PIP_")} | {
        "PATH": f"{server.folder / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder),
        "PIP_CONSTRAINT": constraints,
        "PIP_QUIET": "1",
        "PIP_NO_COMPILE": "1",
    }
    done = subprocess.run(
        ["bash", "-ec", commands], env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def modules(environment):
    """The distributions in an environment, onnxruntime's by one name."""
    listed = json.loads(environment.pip("list", "--format", "json"))
    return {row["name"].lower().removesuffix("-gpu") for row in listed}


def _settled(client):
    """The status of backend 0 once it has settled, and whether onnxruntime is said to be missing."""
    until = time.monotonic() + 120
    while (found := client.post("ListBackends")["0"])["status"] in {"waiting", "loading"}:
        assert time.monotonic() < until
        time.sleep(0.1)
    return found["status"], "No module named" in found["reason"]


def _picture(client):
    asked = {"prompt": "a red circle on a blue background", "cfgscale": 4, "seed": 5, "images": 1}
    [path] = client.post("GenerateText2Image", **asked)["images"]
    return Image.open(io.BytesIO(client.http.get(f"/{path}").content)).convert("RGB")
