"""The ten-minute guide, followed to the letter."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SERVE = "swarmkernel serve\n"
MARK = "=== end of block ==="


@pytest.fixture(name="env")
def _env(tmp_path):
    """Variables that let `pip install` add to this environment without touching it."""
    target = tmp_path / "installed"
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(target),
        "PIP_TARGET": str(target),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "1",
        "PIP_QUIET": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "SWARMKERNEL_SERVER__DATA_DIR": str(tmp_path / "data"),
    }


def run(blocks, url, env, folder):
    """Run shell blocks one after the other in one shell, and give what each printed."""
    script = "set -e\n" + "".join(f"{block.text}\necho; echo '{MARK}'\n" for block in blocks)
    done = subprocess.run(
        ["bash", "-c", script.replace("http://127.0.0.1:7801", url)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout.split(MARK)[:-1]


def expected(blocks):
    """Shell blocks with the output block that follows each, if one does."""
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block.kind == "sh" and block.text != SERVE:
            yield block, after.text if after is not None and after.kind in {"json", "text"} else ""


def check(steps, outputs, matches):
    """Every output is as shown."""
    for (block, shown), real in zip(steps, outputs, strict=True):
        assert matches(shown, real), f"{block.text}\nshould print\n{shown}\nbut printed\n{real}"


def test_guide(page, matches, env, swarm_serve, tmp_path, monkeypatch):
    """A reader who copies every block of the guide sees what it shows, and gets a red image."""
    blocks = list(page("write-a-plugin.md").blocks())
    for block in blocks:
        if block.title:
            path = tmp_path / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    (serving,) = [n for n, block in enumerate(blocks) if block.text == SERVE]
    installing, using = list(expected(blocks[:serving])), list(expected(blocks[serving:]))

    check(installing, run([b for b, _ in installing], "", env, tmp_path), matches)
    monkeypatch.setenv("PYTHONPATH", env["PYTHONPATH"])
    server = swarm_serve()
    outputs = run([b for b, _ in using], server.url, env, tmp_path)
    check(using, outputs, matches)
    path = re.search(r"View/[^\"]+", "".join(outputs))[0]

    assert (256, 128, (255, 0, 0)) == _look(server.client(login=False).http.get(f"/{path}").content)


def test_names(page):
    """What the guide's last table names can be imported from where backends find it."""
    import swarmkernel_backend_api
    import swarmkernel_models_api
    import swarmkernel_t2i_api

    table = page("write-a-plugin.md").text.partition("## 5.")[2]
    code = " ".join(re.findall("`([^`]+)`", table))
    exported = {
        *swarmkernel_backend_api.__all__,
        *swarmkernel_models_api.__all__,
        *swarmkernel_t2i_api.__all__,
    }
    named = set(re.findall(r"\b(?:[A-Z]\w+Error|Progress|Preview|Output|Load\w+|Freed|setting)\b", code))

    assert {"Freed", "Loaded", "NotConfiguredError", "setting"} <= named <= exported


def _look(data):
    """Size and middle pixel of an image file."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return *image.size, image.getpixel((image.width // 2, image.height // 2))
