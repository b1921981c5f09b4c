"""Changes: one at a time, on fresh data, and heard of by every process."""

import asyncio
import json
import time
from importlib.metadata import entry_points

import attrs
import pytest

from swarmkernel import MemoryStore, StoreError, with_store
from swarmkernel.testing import LiveServer
from swarmkernel_accounts import AccountError, Directory, User, changes
from swarmkernel_accounts.changes import Changes
from swarmkernel_accounts.life import open_accounts

OTHERS = {ep.name for ep in entry_points(group="swarmkernel.v1")} - {"accounts", "basic_api", "store_sql"}
ENV = {
    "SWARMKERNEL_ACCOUNTS__REQUIRED": "true",
    "SWARMKERNEL_PLUGINS__DISABLED": json.dumps(sorted(OTHERS)),
}


@attrs.define
class Replica:
    """A process of its own: what it has in memory, and how often its listeners were told."""

    store: MemoryStore
    changes: Changes = attrs.field(init=False)
    directory: Directory = attrs.field(init=False)
    told: int = 0

    def __attrs_post_init__(self):
        self.changes = Changes.of(self.store)
        self.directory = Directory.of(self.store, self.changes)
        self.changes.listen(self.hear)

    async def hear(self):
        """Count a change."""
        self.told += 1


@pytest.fixture(name="store")
def _store():
    return MemoryStore()


@pytest.fixture(name="replicas")
def _replicas(store):
    """Two processes on one store."""
    return Replica(store), Replica(store)


async def test_another_process_follows(replicas):
    """A replica that watches has taken in another's change, and told its listeners, within a second."""
    one, two = replicas
    watching = asyncio.create_task(two.changes.watch())
    await one.directory.add_user(User("bob", ()))
    assert {} == two.directory.users
    await asyncio.sleep(0.9)
    watching.cancel()

    assert {"bob"} == two.directory.users.keys()
    assert (1, 1) == (one.told, two.told)


async def test_ones_own_changes(replicas):
    """One's own changes are in memory at once, listeners are told once, and nothing is read again."""
    one, _ = replicas
    read = []

    async def reload():
        read.append(1)

    one.changes.keep(reload)
    await one.directory.add_user(User("bob", ()))
    await one.changes.refresh()

    assert ({"bob"}, 1, []) == (one.directory.users.keys(), one.told, read)


async def test_writers_see_the_store(replicas):
    """Who writes checks against what is in the store by then, not against older memory."""
    one, two = replicas
    await one.directory.add_user(User("bob", ()))

    with pytest.raises(AccountError, match="already"):
        await two.directory.add_user(User("bob", ()))
    await two.directory.change_user("bob", lambda u: attrs.evolve(u, oauth_email="a@b.c"))
    with pytest.raises(AccountError, match="e-mail"):
        await one.directory.add_user(User("ann", (), oauth_email="a@b.c"))


async def test_a_failure_leaves_nothing(replicas, store):
    """What fails changes neither store nor memory nor counter, and listeners hear nothing of it."""
    one, two = replicas

    async def fail():
        async with one.changes.writing() as then:
            await store.collection("accounts_users", User).put("bob", User("bob", ()))
            then(lambda: pytest.fail("was not committed"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await two.changes.refresh()
    assert (0, 0, {}) == (one.told, two.told, two.directory.users)

    await one.directory.add_user(User("ann", ()))
    await two.changes.refresh()
    assert {"ann"} == one.directory.users.keys() == two.directory.users.keys()


async def test_nesting(replicas):
    """Changes inside a change are one: committed, remembered and told together, or undone together."""
    one, two = replicas

    async def fail():
        async with one.changes.writing():
            await asyncio.sleep(0)
            await one.directory.add_user(User("bob", ()))
            await one.changes.refresh()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert ({}, 0) == (one.directory.users, one.told)

    await asyncio.gather(fail(), one.directory.add_user(User("ann", ())), return_exceptions=True)
    assert {"ann"} == one.directory.users.keys()

    async with one.changes.writing():
        await one.directory.add_user(User("bob", ()))
        assert {"ann"} == one.directory.users.keys()
    await two.changes.refresh()
    assert ({"ann", "bob"}, 2, 1) == (two.directory.users.keys(), one.told, two.told)


async def test_writers_take_turns(replicas):
    """Changes of one process at once come one after the other, each on the last."""
    one, two = replicas
    await asyncio.gather(*(r.directory.add_user(User(f"u{n}", ())) for n in range(10) for r in (one,)))
    await asyncio.gather(*(two.directory.delete_user(f"u{n}") for n in range(9)))
    await one.changes.refresh()

    assert ["u9"] == list(one.directory.users) == list(two.directory.users)


class Failing(MemoryStore):
    """A store that cannot be read for a while."""

    broken = False

    async def read_row(self, collection, key):
        """Read, or fail as a lost disk does."""
        if self.broken:
            raise StoreError("gone")
        return await super().read_row(collection, key)


@pytest.fixture(name="quick")
def _quick(monkeypatch):
    """Look for changes more often than a server does."""
    monkeypatch.setattr(changes, "LOOK_SECONDS", 0.02)


async def test_watching_goes_on(caplog, quick):
    """A store that fails for a while is logged, and what changed is taken in once it works again."""
    one, two = Replica(store := Failing()), Replica(store)
    await one.directory.add_user(User("bob", ()))
    store.broken = True
    watching = asyncio.create_task(two.changes.watch())
    await asyncio.sleep(0.3)
    assert "cannot look for changes" in caplog.text
    store.broken = False
    await asyncio.sleep(0.3)
    watching.cancel()

    assert {"bob"} == two.directory.users.keys()


@pytest.mark.parametrize(("error", "tries"), [(StoreError("full"), 3), (ZeroDivisionError("full"), 1)])
async def test_a_listener_that_fails(replicas, caplog, quick, error, tries):
    """A listener that fails keeps no news from others; one that could not write is asked again until it can."""
    one, two = replicas
    asked = []

    async def fail():
        asked.append(1)
        if len(asked) < 3:
            raise error

    two.changes._listeners.insert(0, fail)
    watching = asyncio.create_task(two.changes.watch())
    await one.directory.add_user(User("bob", ()))
    await asyncio.sleep(0.4)
    watching.cancel()

    assert (tries, tries) == (len(asked), two.told)
    assert "full" in caplog.text


async def test_a_caller_who_leaves(replicas, quick):
    """A change whose caller goes away while listeners are told is followed up all the same."""
    one, _ = replicas
    begun, done = asyncio.Event(), asyncio.Event()

    async def listen():
        if begun.is_set():
            done.set()
        begun.set()
        await asyncio.sleep(0 if done.is_set() else 60)

    one.changes.listen(listen)
    watching = asyncio.create_task(one.changes.watch())
    calling = asyncio.create_task(one.directory.add_user(User("bob", ())))
    await begun.wait()
    calling.cancel()
    await asyncio.wait_for(done.wait(), 1)
    watching.cancel()

    assert {"bob"} == one.directory.users.keys()


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory):
    """One server that requires accounts."""
    with LiveServer(tmp_path_factory.mktemp("data"), env=ENV) as server:
        yield server


def elsewhere(server, change):
    """Change accounts in this process, which the server's knows nothing of."""

    async def act(services):
        parts = await open_accounts(services)
        return await change(parts)

    return with_store(
        act, config=None, data_dir=server.data_dir, strict=None, disable=tuple(OTHERS), require=()
    )


def test_a_running_server_follows(server):
    """Users and tokens made by another process count on a running server at once, and end within a second."""

    async def make(parts):
        await parts.directory.add_user(User("eve", ("owner",)))
        await parts.directory.add_user(User("bob", ("user",)))
        return await parts.tokens.create("bob", address="", user_agent="", is_login=False)

    _, text = elsewhere(server, make)
    client = server.client(login=False)
    client.session_id = client.raw("GetNewSession", headers={"Authorization": f"Bearer {text}"}).json()[
        "session_id"
    ]
    assert "bob" == client.post("GetMyUserData")["user_name"]

    elsewhere(server, lambda parts: parts.directory.delete_user("bob"))
    until = time.monotonic() + 1.0
    while time.monotonic() < until and "error" not in client.post("GetMyUserData"):
        time.sleep(0.02)
    assert "invalid_session_id" == client.post("GetMyUserData")["error_id"]
    assert time.monotonic() < until
