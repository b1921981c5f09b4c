"""The examples of the package's README."""

import re
from pathlib import Path

import swarmkernel_t2i_api

README = Path(swarmkernel_t2i_api.__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_examples(swarm_dists, swarm_serve, tmp_path):
    """The examples of the README work as a plugin: its parameter is listed and its listener hears of pictures."""
    from tests.plugins.t2i_api.conftest import HERE, NOT_NEEDED, QUICK, write_model

    requires = ["swarmkernel", "swarmkernel-backend-api", "swarmkernel-t2i-api"]
    swarm_dists.add("canvas", (HERE / "canvas.py").read_text(), requires=requires)
    swarm_dists.add(
        "example", "\n".join(EXAMPLES).replace("print(", "open(LOG, 'a').write("), requires=requires
    )
    log = tmp_path / "heard"
    path = swarm_dists.folder / "example.py"
    path.write_text(f"LOG = {str(log)!r}\n" + path.read_text())
    write_model(tmp_path / "data", "alpha")
    client = swarm_serve(*NOT_NEEDED, data_dir=tmp_path / "data", **QUICK).client()
    assert "sharpness" in {param["id"] for param in client.post("ListT2IParams")["list"]}
    reply = client.post("GenerateText2Image", images=1, prompt="x", steps=1)
    assert [log.read_text()] == reply["images"]
