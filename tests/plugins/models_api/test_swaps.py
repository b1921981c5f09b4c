"""Links that lead out of the model folders, and those who swap them in while a file is looked at."""

import base64
import json
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from swarmkernel import MemoryStore
from swarmkernel_models_api import ModelFolder, ModelLoadError, Models
from swarmkernel_models_api.elsewhere import Elsewhere
from swarmkernel_models_api.reading import Here

from .conftest import write

CANARY = b"\xff\xd8\xff canary: nobody may read this"
MINE = b"\xff\xd8\xff mine"


def data_url(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode()


@pytest.fixture(name="folders")
def _folders(tmp_path):
    """A model folder and a place outside of it, each with a model, a file that describes it, and pictures."""
    for name, said, picture in (("root/sub", "mine", MINE), ("outside", "canary", CANARY)):
        folder = tmp_path / name
        facts = {"modelspec.title": said, "modelspec.thumbnail": data_url(picture)}
        write(folder / "embedded.safetensors", **facts)
        write(folder / "a.safetensors", **{"modelspec.author": said})
        (folder / "a.json").write_text(json.dumps({"description": said}))
        (folder / "a.jpg").write_bytes(picture)
    return tmp_path / "root", tmp_path / "outside"


@contextmanager
def swapping(victim, target):
    """Keep swapping something for a link that leads elsewhere."""
    parked, evil = victim.with_name(".parked"), victim.with_name(".evil")
    evil.symlink_to(target)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            victim.rename(parked)
            evil.rename(victim)
            victim.rename(evil)
            parked.rename(victim)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def told(models: Models, name: str) -> tuple[str, bytes]:
    """All that can be seen of a model, and its picture."""
    model = models.get(name)
    if model is None:
        return "", b""
    preview = models.preview(model)
    return f"{model.title} {model.metadata}", preview.data if preview else b""


@pytest.mark.parametrize("name", ["a.safetensors", "a.json", "a.jpg", "embedded.safetensors", ""])
async def test_swapping_links_meanwhile_gains_nothing(folders, name):
    """While a thread keeps swapping a file or folder for a link to the outside, nothing of what lies there is seen."""
    root, outside = folders
    shown = "sub/embedded" if name.startswith("embedded") else "sub/a"
    seen = set()
    with swapping(root / "sub" / name if name else root / "sub", outside / name if name else outside):
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            models = Models([ModelFolder(root)], MemoryStore(), reader=Here())
            await models.refresh()
            for _ in range(10):
                text, picture = told(models, shown)
                assert "canary" not in text
                assert picture in {b"", MINE}
                seen |= {*text.split("'"), picture}
    assert MINE in seen


@pytest.mark.parametrize("reader", [Here, Elsewhere])
async def test_what_was_swapped_after_the_scan(folders, reader):
    """A file that became a link after the folders were scanned is neither read, by whichever process, nor loaded."""
    root, outside = folders
    models = Models([ModelFolder(root)], MemoryStore(), reader=reader())
    await models.refresh()
    before = [told(models, name) for name in ("sub/a", "sub/embedded")]
    (root / "sub").rename(root.parent / "parked")
    (root / "sub").symlink_to(outside)
    try:
        after = [models.preview(models.get(name)) for name in ("sub/a", "sub/embedded")]
        digest = await models.tensor_hash(models.get("sub/a"))
        problem = models.reader.header_problem(root / "sub/a.safetensors")
        with pytest.raises(ModelLoadError, match="leads out"):
            await models.load_model(SimpleNamespace(current_model=None), models.get("sub/a"))
    finally:
        await models.close()

    assert [MINE, MINE] == [picture for _, picture in before]
    assert ([None, None], None, "it leads out of the model folders") == (after, digest, problem)


async def test_links_to_listed_folders(folders):
    """Links to a folder that the operator lists, and a folder that is itself a link, are read like any other."""
    root, outside = folders
    (root / "there").symlink_to(outside)
    (root.parent / "alias").symlink_to(root)
    models = Models([ModelFolder(root.parent / "alias"), ModelFolder(outside)], MemoryStore(), reader=Here())
    await models.refresh()

    assert "canary" in told(models, "there/a")[0]
    assert CANARY == told(models, "there/a")[1] == told(models, "there/embedded")[1]
    assert MINE == told(models, "sub/a")[1]
    assert (await models.tensor_hash(models.get("there/a"))).startswith("0x")


async def test_links_to_anywhere_below_a_root(folders):
    """Below a root that the operator lists, no folder of a kind is needed for a link to lead there."""
    root, outside = folders
    (root / "there.safetensors").symlink_to(outside / "a.safetensors")
    listed = Models([ModelFolder(root)], MemoryStore(), roots=[outside])
    unlisted = Models([ModelFolder(root)], MemoryStore())
    for models in (listed, unlisted):
        await models.refresh()

    assert "canary" in told(listed, "there")[0]
    assert unlisted.get("there") is None
