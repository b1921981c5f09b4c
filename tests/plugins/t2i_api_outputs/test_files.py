"""The output folder under good and bad conditions: whole files or none."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import attrs
import pytest

from swarmkernel_t2i_api import EncodedOutput
from swarmkernel_t2i_api.outputs import durable
from swarmkernel_t2i_api.outputs.errors import OutputError
from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.outputs.paths import PathRules

RULES = PathRules("raw/[prompt]")


def tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` with its bytes."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


async def test_a_picture_is_where_its_url_says(outputs, picture, facts):
    """The URL names the user and the path; file and thumbnail lie there and nothing else does."""
    url = await outputs.save(picture, PathRules(), facts())

    assert url == "View/local/raw/2026-08-21/1412001-a cat-sdxlbase.png"
    place = "local/raw/2026-08-21/1412001-a cat-sdxlbase"
    assert {f"{place}.png": picture.data, f"{place}.swarmpreview.jpg": picture.thumbnail} == tree(
        outputs.root
    )


async def test_without_user_folders(outputs, picture, facts):
    """With the setting off, URLs start with Output and the user has no folder."""
    outputs.append_user = False

    assert await outputs.save(picture, RULES, facts()) == "Output/raw/a cat.png"
    assert "raw/a cat.png" in tree(outputs.root)


async def test_taken_names_get_numbers(outputs, picture, facts):
    """A name is taken whatever its extension and letter case; the next number is used."""
    place = outputs.root / "local/raw"
    place.mkdir(parents=True)
    (place / "A Cat.webp").write_bytes(b"x")
    (place / "a cat-1.txt").write_bytes(b"x")

    assert await outputs.save(picture, RULES, facts()) == "View/local/raw/a cat-2.png"
    assert await outputs.save(picture, PathRules("raw/[number]"), facts()) == "View/local/raw/1.png"
    assert await outputs.save(picture, PathRules("raw/[number]"), facts()) == "View/local/raw/2.png"


async def test_many_at_once_get_different_names(outputs, picture, facts):
    """Forty pictures of one name, from two services on one folder, are forty files."""
    other = Outputs(outputs.root, min_free=0)
    urls = await asyncio.gather(
        *(service.save(picture, RULES, facts()) for service in (outputs, other) for _ in range(20))
    )

    assert len(set(urls)) == 40
    assert len([name for name in tree(outputs.root) if name.endswith(".png")]) == 40


@pytest.mark.parametrize(
    ("extension", "text", "options", "expected"),
    [
        ("png", "{}", {}, False),
        ("png", "{}", {"text_file": True}, True),
        ("webp", "{}", {"text_file": True}, False),
        ("jpg", "x" * 40_000, {}, True),
        ("mp4", "{}", {}, True),
        ("mp4", "{}", {"embed": False}, False),
        ("mp4", None, {"text_file": True}, False),
    ],
)
async def test_sidecars(extension, text, options, expected, outputs, facts):
    """Metadata lies beside a file that cannot carry it, or if the user wants that (except for WEBP)."""
    await outputs.save(EncodedOutput(b"data", "x/y", extension, text), RULES, facts(), **options)
    found = tree(outputs.root)

    assert expected == ("local/raw/a cat.swarm.json" in found)
    assert found.get("local/raw/a cat.swarm.json", b"") == (text.encode() if expected else b"")


async def test_links_lead_nowhere(outputs, picture, facts, tmp_path):
    """A folder that is a link out of the output folder is refused, and nothing is written behind it."""
    (tmp_path / "elsewhere").mkdir()
    (outputs.root / "local").mkdir()
    (outputs.root / "local/raw").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OutputError, match="could not be saved"):
        await outputs.save(picture, RULES, facts())

    assert tree(tmp_path / "elsewhere") == {}


async def test_a_nearly_full_disk_says_so(outputs, picture, facts, monkeypatch):
    """A disk with less than 5 % and 2 GiB free refuses with `disk_full`, before anything is written, until there is room."""
    real = os.fstatvfs

    def nearly_full(place: int) -> os.statvfs_result:
        values = list(real(place))
        values[3] = values[4] = 10  # free blocks
        return os.statvfs_result(values)

    outputs.min_free = 2 << 30
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstatvfs", nearly_full)
        for attempt in (outputs.check_room(), outputs.save(picture, RULES, facts())):
            with pytest.raises(OutputError, match="nearly full") as caught:
                await attempt
            assert caught.value.error_id == "disk_full"
    assert tree(outputs.root) == {}

    outputs.min_free = 0
    await outputs.check_room()
    assert await outputs.save(picture, RULES, facts()) == "View/local/raw/a cat.png"


async def test_a_really_full_disk(picture, facts, tmp_path):
    """On a disk of 1 MiB, pictures are saved until it is full; then there is an error, and no part of a file."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        outputs = Outputs(mounted, min_free=0)
        await outputs.start()
        large = attrs.evolve(picture, data=b"x" * 300_000)
        for _ in range(3):
            await outputs.save(large, RULES, facts())
        with pytest.raises(OutputError, match="full") as caught:
            await outputs.save(large, RULES, facts())
        assert caught.value.error_id == "disk_full"
        assert {len(data) for name, data in tree(mounted).items() if name.endswith(".png")} == {300_000}
        assert not [name for name in tree(mounted) if name.endswith(durable.TEMPORARY)]
        (mounted / "local/raw/a cat.png").unlink()
        assert await outputs.save(large, RULES, facts()) == "View/local/raw/a cat-3.png"
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


CALLS = (
    "open",
    "mkdir",
    "write",
    "fsync",
    "link",
    "replace",
    "listdir",
    "fstatvfs",
    "flock",
    "close",
    "unlink",
)


class Faults:
    """Lets the n-th of the system calls of one thread fail with an error, once or for good."""

    def __init__(self, monkeypatch, fail_at: int, error: int, *, for_good: bool) -> None:
        self.count = 0
        self.failed: Counter[str] = Counter()
        self.fail_at, self.error, self.for_good = fail_at, error, for_good
        self.main = threading.get_ident()
        for name in CALLS:
            module = fcntl if name == "flock" else os
            monkeypatch.setattr(module, name, self._wrap(name, getattr(module, name)))

    def _wrap(self, name, real):
        def call(*args, **kwargs):
            if threading.get_ident() == self.main:
                return real(*args, **kwargs)
            self.count += 1
            due = self.count >= self.fail_at if self.for_good else self.count == self.fail_at
            if not due:
                return real(*args, **kwargs)
            self.failed[name] += 1
            if name == "close":
                real(*args, **kwargs)  # a failing close closes all the same
            elif name == "write":
                real(args[0], bytes(args[1])[:3])  # what fits on the disk is written
            raise OSError(self.error, os.strerror(self.error))

        return call


async def test_bytes_are_on_disk_before_the_name(outputs, picture, facts, monkeypatch):
    """The file is written, synced, named, and its folder synced, in that order, before the URL is given out."""
    (outputs.root / "local/raw").mkdir(parents=True)
    calls = []

    def spy(name, real):
        def call(*args, **kwargs):
            place = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            calls.append("fsync folder" if place else name)
            return real(*args, **kwargs)

        return call

    for name in ("write", "fsync", "link"):
        monkeypatch.setattr(os, name, spy(name, getattr(os, name)))
    await outputs.save(attrs.evolve(picture, thumbnail=None), RULES, facts())

    assert ["write", "fsync", "link", "fsync folder"] == calls


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES])
async def test_every_call_may_fail(error, for_good, tmp_path, picture, facts):
    """Whichever system call of a save fails, there is the whole picture with its URL, or an error and no trace of it."""
    picture = attrs.evolve(picture, extension="mp4")  # with a sidecar
    seen: Counter[str] = Counter()
    for fail_at in range(1, 200):
        outputs = Outputs(tmp_path / f"{fail_at}", min_free=1)
        await outputs.start()
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, fail_at, error, for_good=for_good)
            try:
                url = await outputs.save(picture, RULES, facts())
            except OutputError as caught:
                url, text = None, str(caught)
        seen += faults.failed
        await outputs.start()  # what could not even be removed is swept
        found = tree(outputs.root)
        assert before == len(list(Path("/proc/self/fd").iterdir()))
        assert all(data in {picture.data, picture.thumbnail, b'{"a": 1}'} for data in found.values())
        if url is None:
            # A whole file can be left only if removing it failed as well.
            assert found == {} or faults.failed["unlink"]
            assert str(tmp_path) not in text
        else:
            assert found[url.removeprefix("View/")] == picture.data
            assert found["local/raw/a cat.swarm.json"] == b'{"a": 1}'
        if not faults.failed:
            break
    else:
        raise AssertionError("the save never got through")
    assert set(CALLS) == set(seen)


async def test_file_systems_without_links(outputs, picture, facts, monkeypatch):
    """Where there are no hard links a rename does the same, and takes no name that is in use."""

    def no_links(*args, **kwargs):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    urls = [await outputs.save(picture, RULES, facts()) for _ in range(3)]

    assert [f"View/local/raw/a cat{end}.png" for end in ("", "-1", "-2")] == urls
    assert all(tree(outputs.root)[url.removeprefix("View/")] == picture.data for url in urls)


KILLED = """
import asyncio, sys
from datetime import datetime
from pathlib import Path
from swarmkernel_t2i_api import EncodedOutput
from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.outputs.paths import PathFacts, PathRules

async def main():
    outputs = Outputs(Path(sys.argv[1]), min_free=0)
    await outputs.start()
    while True:
        url = await outputs.save(
            EncodedOutput(b"x" * 500_000, metadata="{}"), PathRules("[number]"), PathFacts(datetime.now()), text_file=True
        )
        print(url, flush=True)

asyncio.run(main())
"""


async def test_killed_at_any_moment(tmp_path):
    """Each URL that was given out before a SIGKILL leads to a whole file, no other file is incomplete, and a
    restart sweeps away what was half done.
    """
    urls = []
    for round_ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True
        )
        urls.append(process.stdout.readline().strip())
        await asyncio.sleep(0.01 + 0.013 * round_)
        process.send_signal(signal.SIGKILL)
        urls += process.communicate()[0].splitlines()
    await Outputs(tmp_path, min_free=0).start()
    found = tree(tmp_path)

    assert len(urls) == len(set(urls)) > 6
    assert all(len(found[url.removeprefix("View/")]) == 500_000 for url in urls if url.endswith(".png"))
    assert {len(data) for name, data in found.items() if name.endswith(".png")} == {500_000}
    assert not [name for name in found if name.endswith(durable.TEMPORARY)]


async def test_the_sweep_spares_the_living(outputs):
    """A temporary file that a writer holds is kept; one whose writer is gone is removed."""
    place = outputs.root / "deep/er"
    place.mkdir(parents=True)
    (place / f".dead{durable.TEMPORARY}").write_bytes(b"half")
    holder = os.open(place, os.O_RDONLY)
    with durable.staged(holder, b"whole") as living:
        assert durable.sweep(outputs.root) == 1
        assert [living] == [path.name for path in place.iterdir()]
    os.close(holder)

    assert list(place.iterdir()) == []


async def test_an_unusable_folder_is_named_at_start(tmp_path):
    """A start with a folder that cannot be made says which, and why."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OutputError, match=r"file/Output cannot be used: Not a directory"):
        await Outputs(tmp_path / "file" / "Output").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_no_permission_is_readable(picture, facts):
    """Somebody who may not write in the folder gets `storage_denied` and a text without paths."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        root.chmod(0o555)
        os.seteuid(65534)
        try:
            with pytest.raises(OutputError, match="may not write") as caught:
                await Outputs(root, min_free=0).save(picture, RULES, facts())
            with pytest.raises(OutputError, match="cannot be used: Permission denied"):
                await Outputs(root).start()
        finally:
            os.seteuid(0)

    assert caught.value.error_id == "storage_denied"
    assert place not in str(caught.value)
