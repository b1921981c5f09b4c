"""An installation without torch draws pictures, and installations are as large as the README says."""

import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from swarmkernel.testing import LiveServer

#: What `make run` installs, but for what these bring.
LEAN = ("store-sql", "basic-api", "admin-api", "backends-onnx", "starter-model")


@pytest.fixture(name="measured", scope="module")
def _measured(root):
    """The size of each installation, by the words of the README."""
    import sys

    sys.path.insert(0, str(root))
    from benchmarks.sizes import sizes

    return sizes()


def test_an_installation_without_torch_generates(install, tmp_path, measured):
    """With the ONNX engine alone a server draws what the prompt says, without torch and as small as measured."""
    lean = install(*(f"swarmkernel-{name}" for name in LEAN))
    found = {p["name"].lower() for p in json.loads(lean.pip("list", "--format", "json"))}
    assert set() == {"torch", "diffusers", "transformers", "safetensors", "scipy", "sympy"} & found
    assert measured["with ONNX"].packages == len(found)
    size = sum(
        f.stat().st_size for f in (lean.folder / "lib").rglob("*") if f.is_file() and f.suffix != ".pyc"
    )
    assert size == pytest.approx(measured["with ONNX"].bytes, rel=0.1)
    assert measured["with ONNX"].bytes < 0.75 * measured["with torch"].bytes

    with LiveServer(tmp_path / "data", python=lean.python) as server:
        array = _picture(server.client())
    shutil.rmtree(lean.folder)  # half a gigabyte
    middle, corner = array[48:80, 48:80].mean((0, 1)), array[:8, :8].mean((0, 1))
    assert middle[0] > 150 > middle[2] + 40
    assert corner[2] > 150 > corner[0] + 40


def _picture(client):
    """The first picture of a fresh server, once its backend runs."""
    until = time.monotonic() + 90
    while client.post("GetCurrentStatus")["backend_status"]["status"] != "running":
        assert time.monotonic() < until, client.post("ListBackends")
        time.sleep(0.1)
    assert ["onnx"] == [backend["type"] for backend in client.post("ListBackends").values()]
    asked = {"prompt": "a red circle on a blue background", "cfgscale": 4, "seed": 5, "images": 1}
    [path] = client.post("GenerateText2Image", **asked)["images"]
    return np.asarray(Image.open(io.BytesIO(client.http.get(f"/{path}").content)).convert("RGB")).astype(int)


def test_the_table_of_installations(root, measured):
    """The packages and sizes in the README are as measured, to a tenth."""
    rows = re.findall(
        r"^\| ([^|(]+?)(?: \([^|]+\))? \| [^|]+ \| (\d+) \| (\d+) MB \|$",
        (root / "README.md").read_text(),
        re.MULTILINE,
    )
    assert list(measured) == [name for name, _, _ in rows]
    for name, packages, megabytes in rows:
        assert measured[name].packages == pytest.approx(int(packages), rel=0.1)
        assert measured[name].megabytes == pytest.approx(int(megabytes), rel=0.1)
