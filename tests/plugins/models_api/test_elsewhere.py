"""Model files are read by a process of its own, which may die of them without harm."""

import base64
import contextlib
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from swarmkernel import Aside, MemoryStore
from swarmkernel_models_api import ModelFolder, Models
from swarmkernel_models_api.elsewhere import Elsewhere
from swarmkernel_models_api.reading import Here
from swarmkernel_models_api.scan import scan

from .conftest import SDXL, write

JPEG = b"\xff\xd8\xff" + bytes(20)
PICTURE = "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()


@pytest.fixture(name="reader")
def _reader(tmp_path):
    reader = Elsewhere((tmp_path.resolve(),))
    yield reader
    reader.close()


def found_in(folder: Path):
    return scan([ModelFolder(folder)])


def process_of(reader: Elsewhere) -> int:
    """The process that a reader has now, or 0."""
    return reader.aside._process.pid if reader.aside._process and reader.aside._process.poll() is None else 0


def is_there(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def within(seconds: float, condition) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "still not so"
        time.sleep(0.01)


def test_it_says_what_this_process_would(reader, tmp_path):
    """Models of each form, with sidecars and pictures, and unusable ones are described alike, here or elsewhere."""
    write(
        tmp_path / "a.safetensors",
        SDXL,
        **{"modelspec.title": "A \N{GRINNING FACE}", "modelspec.thumbnail": PICTURE},
    )
    write(tmp_path / "b.safetensors", tags="x, y")
    (tmp_path / "b.json").write_text(json.dumps({"description": "é\u2028" * 5000}))
    (tmp_path / "c.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    (tmp_path / "d.gguf").write_bytes(b"GGUF" + bytes(400))
    (tmp_path / "e.ckpt").write_bytes(b"PK\x03\x04" + bytes(400))
    write(tmp_path / "f/unet/x.safetensors")
    (tmp_path / "f/unet/config.json").write_text('{"sample_size": 16, "in_channels": 4}')
    (tmp_path / "f/model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
    )
    here, found = Here(reader.roots), found_in(tmp_path)

    assert 6 == len(found)
    assert [here.examine(item) for item in found] == [reader.examine(item) for item in found]
    for item in found:
        assert here.header_problem(item.path) == reader.header_problem(item.path)


async def test_pictures(reader, tmp_path):
    """A picture in a header comes through whole."""
    write(tmp_path / "a.safetensors", **{"modelspec.thumbnail": PICTURE})
    write(tmp_path / "b.safetensors")
    models = Models([ModelFolder(tmp_path)], MemoryStore(), reader=reader)
    await models.refresh()

    assert JPEG == models.preview(models.get("a")).data
    assert models.preview(models.get("b")) is None
    assert b"" == reader.picture(models.get("b"))


async def test_it_starts_when_there_is_something_to_read(reader, tmp_path):
    """No process is started for an empty folder, nor for models that are known; one reads all that are new."""
    store, folders = MemoryStore(), [ModelFolder(tmp_path)]
    models = Models(folders, store, reader=reader)
    await models.refresh()
    assert 0 == process_of(reader)

    for number in range(3):
        write(tmp_path / f"{number}.safetensors")
    await models.refresh()
    first = process_of(reader)
    write(tmp_path / "3.safetensors")
    await models.refresh()
    assert (True, 4) == (first == process_of(reader) != 0, len(models.list()))

    await models.close()
    assert not is_there(first)
    later = Elsewhere()
    again = Models(folders, store, reader=later)
    await again.remember()
    await again.refresh()
    assert (4, 0) == (len(again.list()), process_of(later))


def test_it_takes_so_much_and_no_more(reader, tmp_path):
    """Its memory, its computing and what it writes are bounded by the system, and it sees no secrets."""
    write(tmp_path / "a.safetensors")
    os.environ["SWARMKERNEL_SERVER__SECRET_KEY"] = "canary"
    try:
        reader.examine(found_in(tmp_path)[0])
    finally:
        del os.environ["SWARMKERNEL_SERVER__SECRET_KEY"]
    pid = process_of(reader)

    assert 1024**3 == resource.prlimit(pid, resource.RLIMIT_AS)[0]
    assert 10 <= resource.prlimit(pid, resource.RLIMIT_CPU)[0] <= 15
    assert 0 == resource.prlimit(pid, resource.RLIMIT_FSIZE)[0]
    assert 0 == resource.prlimit(pid, resource.RLIMIT_CORE)[0]
    assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_killed_in_mid_file(reader, tmp_path):
    """A process that is killed while it reads costs nothing: another reads the file, and all others."""
    for number in range(300):
        write(tmp_path / f"{number}.safetensors")
    found = found_in(tmp_path)
    pids = set()
    for count, item in enumerate(found):
        if count % 60 == 30:
            pids.add(pid := process_of(reader))
            threading.Timer(count / 30_000, os.kill, (pid, signal.SIGKILL)).start()
        assert reader.examine(item).problem is None

    assert (5, False) == (len(pids - {0}), any(map(is_there, pids)))


def test_frozen(reader, tmp_path):
    """A process that does not answer in time is ended, and another answers."""
    write(tmp_path / "a.safetensors")
    (item,) = found_in(tmp_path)
    expected = reader.examine(item)
    first = process_of(reader)
    os.kill(first, signal.SIGSTOP)
    reader.aside.patience = 3.0

    assert expected == reader.examine(item)
    assert (False, True) == (is_there(first), first != process_of(reader))


def heavy(path: Path, tensors: int) -> Path:
    """A file that is well-formed and has more to read than any model."""
    names = (f'"{number:09d}":' for number in range(tensors))
    tensor = '{"dtype":"F16","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(name + tensor for name in names) + "}").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_a_model_that_takes_too_long(reader, tmp_path):
    """A folder that would keep it busy for minutes is given up and cannot be used; other models are read."""
    first = heavy(tmp_path / "slow/unet/0.safetensors", 300_000)
    for number in range(1, 100):
        os.link(first, first.with_name(f"{number}.safetensors"))
    (tmp_path / "slow/model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    write(tmp_path / "good.safetensors")
    good, slow = found_in(tmp_path)
    reader.examine(good)
    reader.aside.patience = 2.0
    began = time.monotonic()
    facts = reader.examine(slow)

    assert "This model cannot be used: it takes too much time or memory to read." == facts.problem
    assert slow.stamp == facts.stamp
    assert time.monotonic() - began < 10
    assert reader.examine(good).problem is None


@pytest.mark.parametrize("room", [8, 80])
def test_a_model_that_takes_too_much_memory(reader, tmp_path, room):
    """What needs more memory than there is for it cannot be used; the process goes on, or another does."""
    heavy(tmp_path / "big.safetensors", 250_000)
    write(tmp_path / "good.safetensors")
    big, good = found_in(tmp_path)
    reader.examine(good)
    pid = process_of(reader)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + room * 2**20,) * 2)

    assert "memory" in reader.examine(big).problem
    assert reader.examine(good).problem is None


def test_the_end_waits_for_nobody(reader, tmp_path):
    """A server that stops does not wait for a file that is being read, and does not remember it as bad."""
    first = heavy(tmp_path / "slow/unet/0.safetensors", 300_000)
    for number in range(1, 100):
        os.link(first, first.with_name(f"{number}.safetensors"))
    (tmp_path / "slow/model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    (slow,) = found_in(tmp_path)
    facts = []
    thread = threading.Thread(target=lambda: facts.append(reader.examine(slow)))
    thread.start()
    within(10, lambda: process_of(reader))
    pid = process_of(reader)
    time.sleep(1)
    began = time.monotonic()
    reader.close()
    thread.join()

    assert time.monotonic() - began < 2
    assert not is_there(pid)
    assert [""] == [item.stamp for item in facts]


def test_it_does_not_outlive_its_server(tmp_path):
    """A process whose server is gone ends."""
    mine, its = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "swarmkernel_models_api"], stdin=mine, stdout=subprocess.PIPE
    )
    os.close(mine)
    time.sleep(0.5)
    assert child.poll() is None
    os.close(its)
    assert 0 == child.wait(10)
    child.stdout.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff\xff\xff\xff",
        b"\x05\0\0\0{}",
        b"\x02\0\0\0{}",
        b"\x02\0\0\0[]",
        b'\x08\0\0\0{"a": 1}',
        b'\x1f\0\0\0{"facts": {"stamp": 1, "x": {}}}',
    ],
)
def test_nonsense(said, tmp_path, monkeypatch):
    """Whatever a process says in the place of an answer, its file cannot be used, and that is all."""
    write(tmp_path / "a.safetensors")
    (item,) = found_in(tmp_path)
    program = f"import sys; sys.stdout.buffer.write({said!r}); sys.stdout.flush(); sys.stdin.read()"
    (tmp_path / "liar.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    reader = Elsewhere((tmp_path.resolve(),), Aside("liar", patience=0.5))
    try:
        assert "cannot be used" in reader.examine(item).problem
        assert reader.header_problem(item.path)
    finally:
        reader.close()
