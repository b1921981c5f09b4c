"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "write-a-plugin.md").read_text()


def blocks(kind):
    """The fenced blocks of a language."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_generating_with_curl(shared, tmp_path):
    """The curl commands leave a picture of a red circle on blue."""
    script = blocks("sh")[0]
    done = subprocess.run(
        ["bash", "-euc", script.replace("http://127.0.0.1:7801", shared.url)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    pixels = np.asarray(Image.open(tmp_path / "picture.png").convert("RGB")).astype(int)
    middle = pixels[48:80, 48:80].mean((0, 1))
    assert middle[0] > middle[2] + 40
    assert pixels[:8, :8].mean((0, 1))[2] > pixels[:8, :8].mean((0, 1))[0] + 40


def test_the_backend_is_the_guides():
    """The backend that the README shows is the one of the guide, where a test installs and runs it."""
    (code,) = blocks("python")

    assert code in GUIDE
    assert len(code.splitlines()) <= 40


def test_accounts(swarm_serve, tmp_path):
    """With the shown owner and settings, nobody gets a session without the owner's password."""
    accounts, _ = blocks("toml")
    script = blocks("sh")[1].replace(".venv/bin/swarmkernel", f"{sys.executable} -m swarmkernel")
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "data" / "swarmkernel.toml").write_text(accounts)
    client = swarm_serve("--disable", "backends_torch", data_dir=tmp_path / "data").client(login=False)

    assert "not_logged_in" == client.raw("GetNewSession").json()["error_id"]
    assert "true" == client.post("Login", username="ann", password="correct horse battery")["success"]
    assert "ann" == client.raw("GetNewSession").json()["user_id"]


def test_the_settings_load(swarm_serve, tmp_path):
    """The settings that the README shows are accepted."""
    (tmp_path / "data").mkdir()
    _, settings = blocks("toml")
    (tmp_path / "data" / "swarmkernel.toml").write_text(settings.replace("/mnt/models", str(tmp_path)))

    assert "status" in swarm_serve("--disable", "backends_torch").client().post("GetCurrentStatus")


def test_links_and_pictures():
    """Every file that the README links to is there."""
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)

    assert [] == [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("folder", re.findall(r"^\| `([\w/]+)/` \|", README, re.MULTILINE))
def test_the_table_of_folders(folder):
    """Every folder in the table is there, and has the distribution that the table says."""
    row = next(line for line in README.splitlines() if line.startswith(f"| `{folder}/` |"))

    assert row.split("`")[3] in (ROOT / folder / "pyproject.toml").read_text()
