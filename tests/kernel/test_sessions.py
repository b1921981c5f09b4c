"""Sessions live in the store and end when they should."""

import asyncio
import time

import pytest

from swarmkernel import MemoryStore, Sessions
from swarmkernel.sessions import IDLE_SECONDS


@pytest.fixture(name="store")
def _store():
    return MemoryStore()


async def test_revived_from_the_store(store):
    """A session is found again by another server process on the same store."""
    session = await Sessions.of(store, 10).open("local", "127.0.0.1", "token")

    found = await Sessions.of(store, 10).find(session.id)

    assert (session.user_id, session.address, session.token_id) == (
        found.user_id,
        found.address,
        found.token_id,
    )


async def test_only_a_hash_is_stored(store):
    """The store holds nothing from which a session id could be read."""
    session = await Sessions.of(store, 10).open("local", "127.0.0.1")

    rows = await store.collection("sessions", dict).items()

    assert 1 == len(rows)
    assert session.id not in f"{rows[0].key} {rows[0].value}"


async def test_end(store):
    """An ended session is unknown at once, here and elsewhere, and tells its sockets."""
    sessions = Sessions.of(store, 10)
    session = await sessions.open("local", "127.0.0.1")

    await sessions.end(session)

    assert session.ended.is_set()
    assert await sessions.find(session.id) is None
    assert await Sessions.of(store, 10).find(session.id) is None


async def test_idle_sessions_end(store, monkeypatch):
    """A session that nobody used for 31 days is gone, and its row is purged."""
    sessions = Sessions.of(store, 10)
    session = await sessions.open("local", "127.0.0.1")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + IDLE_SECONDS + 5)

    assert await sessions.find(session.id) is None
    await sessions.purge()

    assert [] == await store.collection("sessions", dict).items()


async def test_use_keeps_a_session(store, monkeypatch):
    """Use is written to the store at most hourly, and keeps the session."""
    sessions = Sessions.of(store, 10)
    session = await sessions.open("local", "127.0.0.1")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + IDLE_SECONDS - 5)
    await sessions.touch(session)
    monkeypatch.setattr(time, "time", lambda: now + IDLE_SECONDS + 5)

    assert await sessions.find(session.id) is session
    assert await Sessions.of(store, 10).find(session.id) is not None


async def test_cap_per_user(store):
    """Beyond the cap a user's least recently used session gives way; other users' do not."""
    sessions = Sessions.of(store, 2)
    other = await sessions.open("other", "127.0.0.1")
    first = await sessions.open("local", "127.0.0.1")
    await asyncio.sleep(0.01)
    for _ in range(2):
        await sessions.open("local", "127.0.0.1")

    assert await sessions.find(first.id) is None
    assert await sessions.find(other.id) is other


async def test_cap_over_restarts(store):
    """Sessions from before a restart count too: the cleaning leaves a user so many, those in use first."""
    before = Sessions.of(store, 10)
    old = []
    for _ in range(5):
        old.append(await before.open("local", "127.0.0.1"))
        await asyncio.sleep(0.01)
    other = await before.open("other", "127.0.0.1")
    after = Sessions.of(store, 3)
    used = await after.find(old[0].id)
    new = await after.open("local", "127.0.0.1")

    await after.purge()

    assert 4 == len(await store.collection("sessions", dict).items())
    found = [await Sessions.of(store, 3).find(session.id) for session in (*old, new, other)]
    assert [used.id, old[4].id, new.id, other.id] == [session.id for session in found if session]
