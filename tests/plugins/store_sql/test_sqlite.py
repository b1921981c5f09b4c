"""What the SQLite file promises beyond the conformance suite: modes, damage, full disks, failed flushes."""

import asyncio
import random
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from swarmkernel import StartupError, StoreError
from swarmkernel_store_sql import Settings, open_store

FAULTS = Path(__file__).parent / "faults.py"


async def fill(folder: Path, count: int = 20) -> Path:
    """A store with some values, and its file."""
    async with open_store(Settings(), folder) as store:
        texts = store.collection("texts", str)
        async with store.transaction():
            for n in range(count):
                await texts.put(f"key{n}", f"{n}" * 500)
    return folder / "swarmkernel.db"


async def refusal(folder: Path) -> str:
    """Why the store does not open."""
    with pytest.raises(StartupError) as caught:
        async with open_store(Settings(), folder):
            pass
    return str(caught.value)


async def test_files_are_the_owners_only(tmp_path):
    """The file, its log and its index are readable by nobody else, and stay so for a copy that was."""
    file = await fill(tmp_path)
    file.chmod(0o644)
    async with open_store(Settings(), tmp_path) as store:
        await store.collection("numbers", int).put("key", 1)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    names = ("swarmkernel.db", "swarmkernel.db-shm", "swarmkernel.db-wal")
    assert dict.fromkeys(names, 0o600) == modes


async def test_commits_are_flushed(tmp_path):
    """Every connection of the pool runs in WAL mode, flushes each commit and waits five seconds for others."""
    async with open_store(Settings(), tmp_path) as store:
        connections = [store.connected() for _ in range(5)]
        for connection in connections:
            conn = await connection.__aenter__()
            pragmas = ("journal_mode", "synchronous", "busy_timeout")
            values = [(await conn.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in pragmas]
            assert ["wal", 2, 5000] == values
        for connection in connections:
            await connection.__aexit__(None, None, None)


async def test_nothing_is_left_but_the_file(tmp_path):
    """After a clean end there is one file, whole without its log."""
    file = await fill(tmp_path)
    assert [file] == list(tmp_path.iterdir())


async def test_a_newer_schema_is_refused(tmp_path):
    """A file of a newer version stops the start with its path, and is not touched."""
    file = await fill(tmp_path)
    with sqlite3.connect(file) as conn:
        conn.execute("UPDATE swarm_meta SET value = '2'")
    conn.close()
    before = file.read_bytes()
    assert f"{file} was written by a newer version (schema 2, known here: 1)" in await refusal(tmp_path)
    assert before == file.read_bytes()


@pytest.mark.parametrize("content", [b"", b"not a database, " * 1000, b"SQLite format 3\0" + b"\0" * 5000])
async def test_a_file_that_is_no_database_is_refused(tmp_path, content):
    """An empty file, some other file and a ruined one stop the start with path and advice, and are not touched."""
    file = tmp_path / "swarmkernel.db"
    file.write_bytes(content)
    text = await refusal(tmp_path)
    assert f"{file} is damaged" in text
    assert "Restore a backup" in text
    assert content == file.read_bytes()


async def test_another_programs_database_is_refused(tmp_path):
    """An SQLite file of another program stops the start with the tables that it has."""
    with sqlite3.connect(tmp_path / "swarmkernel.db") as conn:
        conn.execute("CREATE TABLE songs (title)")
    conn.close()
    assert "is not a store of SwarmKernel's (it has songs)" in await refusal(tmp_path)


async def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    """A folder in the file's place, or a file in the folder's place, stops the start with the path."""
    (tmp_path / "swarmkernel.db").mkdir()
    assert str(tmp_path / "swarmkernel.db") in await refusal(tmp_path)
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in await refusal(tmp_path / "file")


async def test_flipped_bytes_never_pass_for_an_empty_store(tmp_path):
    """With any one byte flipped, the file is refused by name, or every value is there, or reading it is an error."""
    whole = (await fill(tmp_path / "whole")).read_bytes()
    chance, outcomes = random.Random(3), set()
    for n in range(60):
        folder = tmp_path / str(n)
        folder.mkdir()
        place = chance.randrange(100) if n < 20 else chance.randrange(len(whole))
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        (folder / "swarmkernel.db").write_bytes(damaged)
        try:
            async with open_store(Settings(), folder) as store:
                assert len(await store.collection("texts", str).items()) in (19, 20), place
                outcomes.add("opened")
        except StartupError as error:
            outcomes.add("refused" if str(folder) in str(error) else str(error))
        except StoreError:
            outcomes.add("unreadable")
    assert {"opened", "refused"} == outcomes - {"unreadable"}


async def test_a_cut_log_loses_only_its_end(tmp_path):
    """With its log cut anywhere, the file opens and holds a first part of the commits, each whole."""
    source = tmp_path / "source"
    async with open_store(Settings(), source) as store:
        numbers = store.collection("numbers", int)
        for n in range(20):
            async with store.transaction():
                await numbers.put(f"a{n:02}", n)
                await numbers.put(f"b{n:02}", n)
        file, log = ((source / name).read_bytes() for name in ("swarmkernel.db", "swarmkernel.db-wal"))
    for n in range(10):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "swarmkernel.db").write_bytes(file)
        (folder / "swarmkernel.db-wal").write_bytes(log[: random.Random(n).randrange(len(log))])
        async with open_store(Settings(), folder) as store:
            numbers = store.collection("numbers", int)
            kept = [[record.value for record in await numbers.items(letter)] for letter in "ab"]
        assert kept[0] == kept[1] == list(range(len(kept[0])))


async def test_another_process_in_the_way_is_named(tmp_path, monkeypatch):
    """A write that another process keeps out for too long fails with StoreError, and works once it is gone."""
    monkeypatch.setattr("swarmkernel_store_sql.sqlite.BUSY_SECONDS", 0.2)
    file = await fill(tmp_path)
    async with open_store(Settings(), tmp_path) as store:
        numbers = store.collection("numbers", int)
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="busy: another process"):
            await numbers.put("key", 1)
        assert await numbers.get("key") is None
        other.execute("ROLLBACK")
        other.close()
        await numbers.put("key", 2)


async def test_long_readers_do_not_stop_writers(tmp_path):
    """Fifty readers at once, over and over, do not keep a writer out, nor see half of its transactions."""
    async with open_store(Settings(), tmp_path) as store:
        numbers = store.collection("numbers", int)
        writing = True

        async def read() -> None:
            while writing:
                values = {record.value for record in await numbers.items()}
                assert len(values) <= 1

        readers = [asyncio.create_task(read()) for _ in range(50)]
        for n in range(20):
            async with store.transaction():
                await numbers.put("a", n)
                await numbers.put("b", n)
        writing = False
        await asyncio.gather(*readers)


def run_with_faults(folder: Path, fault: str) -> list[str]:
    """Run faults.py, which writes before and after its disk begins to fail."""
    command = [sys.executable, str(FAULTS), str(folder), fault]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_a_full_disk_is_named_and_writes_nothing(tmp_path):
    """When the disk is full, writes fail with a text that says so, reads go on, and nothing is half-written."""
    lines = run_with_faults(tmp_path, "full")
    assert "put before: ok" == lines[0]
    refusal = f"refused by the disk: The disk of {tmp_path / 'swarmkernel.db'} is full: nothing was written."
    assert [f"put {key}: {refusal} Free some space." for key in ("during", "later")] == lines[1:3]
    assert "read before: 1" == lines[3]
    async with open_store(Settings(), tmp_path) as store:
        records = await store.collection("numbers", int).items()
    assert [("before", 1)] == [(record.key, record.value) for record in records]


async def test_a_failed_flush_is_never_tried_again(tmp_path):
    """After a flush has failed, that write and all later ones fail, reads go on, and earlier writes are there."""
    lines = run_with_faults(tmp_path, "flush")
    assert "put before: ok" == lines[0]
    refusal = f"{tmp_path / 'swarmkernel.db'} could not be flushed to disk; check it and restart the server"
    assert [
        f"put during: refused by the disk: {refusal}",
        f"put later: refused by the store: {refusal}",
    ] == lines[1:3]
    assert "read before: 1" == lines[3]
    async with open_store(Settings(), tmp_path) as store:
        assert await store.collection("numbers", int).get("before") == 1
        assert await store.collection("numbers", int).get("later") is None
