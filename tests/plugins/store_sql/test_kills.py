"""Whatever was acknowledged is there after kill -9."""

import importlib.util
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmkernel_store_sql import Settings, open_store

WRITER = Path(__file__).parent / "writer.py"
KILLS = 100
FIRST_STARTS = 30


@pytest.fixture
def writer() -> Iterator[subprocess.Popen]:
    """A process that forks writers."""
    command = [sys.executable, str(WRITER)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    yield process
    process.stdin.close()
    assert process.wait(30) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def payload():
    """The writer's function that says which text a number has."""
    spec = importlib.util.spec_from_file_location("writer", WRITER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.payload


def kill_one(writer: subprocess.Popen, folder: Path, seconds: float, wait_for: str) -> int:
    """Start a writer, kill it some time after it has said a word, and give the last number that it acknowledged."""
    writer.stdin.write(f"{folder}\n")
    said = [writer.stdout.readline().strip()]
    while not any(line.startswith(wait_for) for line in said):
        said.append(writer.stdout.readline().strip())
    time.sleep(seconds)
    pid = next(int(line.split()[1]) for line in said if line.startswith("pid"))
    os.kill(pid, signal.SIGKILL)
    while "dead" not in said:
        said.append(writer.stdout.readline().strip())
    return max((int(line) for line in said if line.isdecimal()), default=0)


async def test_no_acknowledged_write_is_lost(tmp_path, writer, payload):
    """A hundred writers, each killed mid-write at a random moment, lose nothing that they acknowledged."""
    chance, acknowledged, kept = random.Random(5), 0, 0
    for _ in range(KILLS):
        acknowledged = max(acknowledged, kill_one(writer, tmp_path, chance.uniform(0, 0.08), "ready"))
        with sqlite3.connect(tmp_path / "swarmkernel.db") as conn:
            rows = conn.execute("SELECT count(*) FROM swarm_rows WHERE collection = 'texts'").fetchone()
            report = conn.execute("PRAGMA integrity_check").fetchone()
        conn.close()
        assert ("ok",) == report
        # One write more may be there: it was committed, and the process killed before it said so.
        assert acknowledged <= rows[0] <= max(acknowledged, kept) + 1
        kept = rows[0]
    assert acknowledged >= KILLS
    async with open_store(Settings(), tmp_path) as store:
        texts = await store.collection("texts", str).items()
        halves = [await store.collection("pairs", str).items(half) for half in "ab"]
        count = await store.collection("counter", int).get("count")
    assert [payload(n) for n in range(1, len(texts) + 1)] == [record.value for record in texts]
    assert [record.key[1:] for record in halves[0]] == [record.key[1:] for record in halves[1]]
    assert acknowledged <= count <= len(halves[0]) <= len(texts) == kept


async def test_a_first_start_may_be_killed(tmp_path, writer):
    """A server killed at any moment of its very first start can start again."""
    chance = random.Random(6)
    for n in range(FIRST_STARTS):
        folder = tmp_path / str(n)
        kill_one(writer, folder, chance.uniform(0, 0.1), "pid")
        async with open_store(Settings(), folder) as store:
            assert await store.collection("counter", int).update("count", lambda old: (old or 0) + 1) >= 1
