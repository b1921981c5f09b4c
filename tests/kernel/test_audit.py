"""The audit log keeps every deed once, in order, and shows if a row was changed afterwards."""

import asyncio
import time

import attrs
import pytest

from swarmkernel import Audit, MemoryStore, RouteError
from swarmkernel.audit import Pace


@pytest.fixture(name="store")
def _store():
    return MemoryStore()


async def test_rows_are_numbered_and_newest_first(store):
    """Rows come back newest first, a page at a time, with what was written in them."""
    audit = Audit.of(store, 100)
    for number in range(5):
        await audit.record("Act", user_id="ann", address="peer", subject={"n": number}, impersonator="bob")

    newest = await audit.entries(limit=2)
    older = await audit.entries(before=newest[-1].number, limit=100)

    assert [5, 4] == [entry.number for entry in newest]
    assert [3, 2, 1] == [entry.number for entry in older]
    assert ("Act", "ann", "peer", "bob", {"n": "2"}, "ok") == (
        older[0].action,
        older[0].user_id,
        older[0].address,
        older[0].impersonator,
        older[0].subject,
        older[0].result,
    )


@pytest.mark.parametrize("change", [{"user_id": "eve"}, {"result": "denied"}, {"subject": {"n": "7"}}, None])
async def test_tampering_shows(store, change):
    """A row that was changed or taken away is found by its number."""
    audit = Audit.of(store, 100)
    for number in range(4):
        await audit.record("Act", user_id="ann", subject={"n": number})
    assert await audit.verify() is None

    rows = store.collection("audit", type((await audit.entries())[0]))
    key, entry = (await rows.items())[1].key, (await rows.items())[1].value
    if change is None:
        await rows.delete(key)
    else:
        await rows.put(key, attrs.evolve(entry, **change))

    assert await audit.verify() == 2


async def test_pages_of_a_long_log(store):
    """Pages of any size, one after another, give every row once."""
    audit = Audit.of(store, 1000)
    for _ in range(250):
        await audit.record("Act", user_id="ann")
    for limit in (1, 99, 100, 101, 250, 1000):
        numbers, before = [], None
        while page := await audit.entries(before=before, limit=limit):
            assert len(page) <= limit
            numbers += [entry.number for entry in page]
            before = numbers[-1]
        assert list(range(250, 0, -1)) == numbers


async def test_the_oldest_rows_go(store):
    """Beyond the limit the oldest rows go, and what is left still verifies."""
    audit = Audit.of(store, 3)
    for _ in range(7):
        await audit.record("Act", user_id="ann")

    assert [7, 6, 5] == [entry.number for entry in await audit.entries()]
    assert await audit.verify() is None


async def test_writers_do_not_lose_rows(store):
    """Rows of several writers at once all stay, in one chain."""
    logs = [Audit.of(store, 1000) for _ in range(4)]
    await asyncio.gather(*(log.record("Act", user_id=f"u{n}") for n, log in enumerate(logs * 10)))

    assert list(range(40, 0, -1)) == [entry.number for entry in await logs[0].entries()]
    assert await logs[0].verify() is None


def test_calls_of_audited_routes(probe):
    """Each call of an audited route leaves one row with the named keys and the result, and no other key."""
    client = probe().client()
    client.post("Change", name="a" * 300, secret="hunter2")
    client.post("Change", name="b", fail="closed")
    client.post("Change", name="c", fail="ratelimit")
    client.post("Change")
    client.stream("ChangeWS", name="d")
    with client.socket("WatchWS", name="e") as ws:
        ws.recv(timeout=5)
    client.post("Echo", text="x")
    until = time.monotonic() + 5
    while len(client.post("Trail")["rows"]) < 4 and time.monotonic() < until:
        time.sleep(0.05)

    rows = client.post("Trail")

    assert {
        "bad": None,
        "rows": [
            ["WatchWS", "local", {"name": "e"}, "left"],
            ["ChangeWS", "local", {"name": "d"}, "broken"],
            ["Change", "local", {"name": "b"}, "closed"],
            ["Change", "local", {"name": "a" * 200}, "ok"],
        ],
    } == rows


def test_pace(monkeypatch):
    """A user may fill the log only slowly, and does not keep others from what they may do."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(2)
    for user in ("ann", "ann", "bob"):
        pace.take(user)
    with pytest.raises(RouteError, match="2 times a minute"):
        pace.take("ann")
    pace.take("bob")
    now += 61
    pace.take("ann")
