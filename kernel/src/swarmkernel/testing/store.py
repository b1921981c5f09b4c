"""
What every Store must do, as a pytest suite to subclass.

Give `StoreConformance` a fixture `store`. Give `DurableStoreConformance` a fixture `open_store`: a function without
parameters whose async context manager is a Store over always the same, at first empty, data.
"""

import asyncio
import enum
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_asyncio

from swarmkernel.errors import ConflictError, StoreError
from swarmkernel.store import MAX_KEY_BYTES, Collection, Record, Store
from swarmkernel.testing.transactions import TransactionConformance, add, undone

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]

AWKWARD_KEYS = (
    *(
        "",
        " ",
        "%",
        "_",
        "\\",
        "'",
        '"',
        "\n",
        "/",
        "a",
        "A",
        "a%",
        "a_b",
        "aXb",
        "ab",
        "b",
        "é",
        "e\u0301",
        "ß",
    ),
    *("ss", "\ud7ff", "\ue000", "\uffff", "\U0001f600", "\U0010ffff", "\U0010ffffz", "x" * MAX_KEY_BYTES),
)
IMPOSSIBLE_KEYS = ("a\0b", "\ud800", "x" * (MAX_KEY_BYTES + 1), "é" * MAX_KEY_BYTES)
AWKWARD_TEXTS = (
    "",
    "\0",
    "\ud800",
    "'; DROP TABLE swarm_rows; --",
    "%s :name ? $1",
    "\U0001f600" * 1000,
    "x" * 2**20,
)


class Colour(enum.Enum):
    """An enumeration to store."""

    RED = "red"


@attrs.frozen
class Inner:
    """A nested value to store."""

    numbers: tuple[float, ...]


@attrs.frozen
class Thing:
    """A value to store, with a field of each kind that plugins use."""

    name: str
    count: int = 2**63
    colour: Colour = Colour.RED
    made: datetime = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
    where: Path = Path("/some/where")
    secret: bytes = b"\0\xff"
    inner: Inner | None = None
    tags: frozenset[str] = frozenset({"a", "b"})
    free: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class OlderThing:
    """What an earlier version of a plugin knows of `Thing`."""

    name: str


class StoreConformance(TransactionConformance):
    """What every Store must do."""

    async def test_nothing_is_found_where_nothing_was_put(self, store: Store) -> None:
        """An absent key has no value, no record, nothing to delete, and is in no list."""
        absent = store.collection("things", Thing)
        assert await absent.get("key") is None
        assert await absent.read("key") is None
        assert await absent.delete("key") is False
        assert await absent.items() == []

    async def test_values_come_back_equal(self, store: Store) -> None:
        """A value of an attrs class comes back equal, fields of all kinds included."""
        things = store.collection("things", Thing)
        thing = Thing("one", inner=Inner((1.5, -0.0, 1e300)), free={"deep": [None, True, {"x": 1}], "": ""})
        version = await things.put("key", thing)
        assert await things.get("key") == thing
        assert await things.read("key") == Record("key", thing, version)

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (str, "text"),
            (int, -5),
            (float, 0.1),
            (bool, False),
            (list[int], [1, 2]),
            (dict[str, Any], {"a": [1, None]}),
        ],
        ids=str,
    )
    async def test_plain_values_come_back_equal(self, store: Store, kind: type, value: Any) -> None:
        """A collection may hold plain JSON values, false ones too."""
        plain: Collection[Any] = store.collection("plain", kind)
        await plain.put("key", value)
        assert await plain.get("key") == value

    async def test_any_text_comes_back_equal(self, store: Store) -> None:
        """Text comes back letter for letter: empty, long, with NUL, lone surrogates or SQL in it."""
        texts = store.collection("texts", str)
        for text in AWKWARD_TEXTS:
            await texts.put("key", text)
            assert await texts.get("key") == text

    async def test_unknown_fields_are_ignored(self, store: Store) -> None:
        """A value that a newer version wrote with more fields is readable by an older one."""
        await store.collection("things", Thing).put("key", Thing("one"))
        assert await store.collection("things", OlderThing).get("key") == OlderThing("one")

    async def test_a_value_of_another_type_is_an_error(self, store: Store) -> None:
        """Data that does not fit the type raises StoreError with the place, and is not taken for absent."""
        await store.collection("things", str).put("bad", "just text")
        with pytest.raises(StoreError, match="things/bad"):
            await store.collection("things", Thing).get("bad")

    async def test_the_store_keeps_its_own_copy(self, store: Store) -> None:
        """What happens to a value after put, or to what get gave, does not happen to the stored one."""
        free = store.collection("free", dict[str, Any])
        value: dict[str, Any] = {"list": [1]}
        await free.put("key", value)
        value["list"].append(2)
        got = await free.get("key")
        assert got is not None
        got["list"].append(3)
        assert await free.get("key") == {"list": [1]}

    async def test_each_write_changes_the_version(self, store: Store) -> None:
        """Put gives the version that read then shows, and never gives one twice for a key, deleted or not."""
        numbers = store.collection("numbers", int)
        seen = set()
        for turn in range(20):
            version = await numbers.put("key", 1)
            record = await numbers.read("key")
            assert record is not None
            assert version == record.version
            assert version > 0
            assert version not in seen
            seen.add(version)
            if turn % 3 == 2:
                assert await numbers.delete("key") is True

    async def test_a_put_with_the_stored_version_wins(self, store: Store) -> None:
        """Put with the version that was read writes."""
        numbers = store.collection("numbers", int)
        first = await numbers.put("key", 1, version=0)
        second = await numbers.put("key", 2, version=first)
        assert await numbers.read("key") == Record("key", 2, second)

    @pytest.mark.parametrize("stale", [0, 1, "first"])
    async def test_a_put_with_another_version_is_refused(self, store: Store, stale: int | str) -> None:
        """Put with a version that is not the stored one raises ConflictError and changes nothing."""
        numbers = store.collection("numbers", int)
        first = await numbers.put("key", 1)
        second = await numbers.put("key", 2)
        with pytest.raises(ConflictError):
            await numbers.put("key", 3, version=first if isinstance(stale, str) else stale)
        assert await numbers.read("key") == Record("key", 2, second)

    async def test_a_put_with_a_version_needs_a_value(self, store: Store) -> None:
        """Put with a version where nothing is raises ConflictError, and still nothing is there."""
        numbers = store.collection("numbers", int)
        version = await numbers.put("key", 1)
        await numbers.delete("key")
        with pytest.raises(ConflictError):
            await numbers.put("key", 2, version=version)
        assert await numbers.get("key") is None

    async def test_delete_obeys_versions(self, store: Store) -> None:
        """Delete with the stored version deletes; with another one it raises ConflictError and deletes nothing."""
        numbers = store.collection("numbers", int)
        version = await numbers.put("key", 1)
        for stale in (0, version - 1, version + 1):
            with pytest.raises(ConflictError):
                await numbers.delete("key", version=stale)
        assert await numbers.get("key") == 1
        assert await numbers.delete("key", version=version) is True
        assert await numbers.delete("key", version=0) is False
        with pytest.raises(ConflictError):
            await numbers.delete("key", version=version)

    async def test_items_are_in_the_order_of_code_points(self, store: Store) -> None:
        """Items lists all records, by key as Python sorts text, whatever the letters."""
        numbers = store.collection("numbers", int)
        keys = random.Random(1).sample(AWKWARD_KEYS, len(AWKWARD_KEYS))
        records = [Record(key, n, await numbers.put(key, n)) for n, key in enumerate(keys)]
        assert sorted(records, key=lambda record: record.key) == await numbers.items()

    async def test_prefixes_are_exact(self, store: Store) -> None:
        """A prefix finds the keys that start with it to the letter: no wildcards, no folding of case."""
        numbers = store.collection("numbers", int)
        for key in AWKWARD_KEYS:
            await numbers.put(key, 1)
        for prefix in (*AWKWARD_KEYS, "a\ud7ff", "none"):
            found = [record.key for record in await numbers.items(prefix)] if "\ud800" not in prefix else []
            assert sorted(key for key in AWKWARD_KEYS if key.startswith(prefix)) == found

    async def test_collections_are_apart(self, store: Store) -> None:
        """The same key in another collection is another value, however alike the names."""
        names = ("a", "A", "a/b", "ab", "a%", "")
        for name in names:
            await store.collection(name, str).put("b/key", name)
        for name in names:
            assert [name] == [record.value for record in await store.collection(name, str).items()]

    @pytest.mark.parametrize("key", IMPOSSIBLE_KEYS, ids=["nul", "surrogate", "long", "long in UTF-8"])
    async def test_impossible_keys_hold_nothing(self, store: Store, key: str) -> None:
        """A key that not every store can hold cannot be put, and is absent to everything else."""
        numbers = store.collection("numbers", int)
        with pytest.raises(StoreError):
            await numbers.put(key, 1)
        with pytest.raises(StoreError):
            await numbers.update(key, add(1))
        assert await numbers.get(key) is None
        assert await numbers.delete(key) is False
        assert await numbers.items(key) == []

    async def test_it_behaves_like_a_dictionary(self, store: Store) -> None:
        """After any sequence of writes it holds what a dictionary would hold."""
        chance = random.Random(7)
        numbers, plain = store.collection("numbers", int), dict[str, int]()
        for turn in range(150):
            key = chance.choice(AWKWARD_KEYS)
            match chance.choice(("put", "delete", "update", "drop")):
                case "put":
                    await numbers.put(key, turn)
                    plain[key] = turn
                case "delete":
                    assert (plain.pop(key, None) is not None) == await numbers.delete(key)
                case "update":
                    plain[key] = plain.get(key, 0) + turn
                    assert plain[key] == await numbers.update(key, add(turn))
                case "drop":
                    plain.pop(key, None)
                    assert await numbers.update(key, lambda _: None) is None
        assert sorted(plain.items()) == [(record.key, record.value) for record in await numbers.items()]

    async def test_a_failing_change_changes_nothing(self, store: Store) -> None:
        """An exception in the change of an update passes through, and the value stays."""
        numbers = store.collection("numbers", int)
        await numbers.put("key", 1)
        with pytest.raises(ZeroDivisionError):
            await numbers.update("key", lambda old: (old or 0) // 0)
        assert await numbers.get("key") == 1

    async def test_concurrent_updates_lose_nothing(self, store: Store) -> None:
        """A hundred updates of one key at once, from nothing, all count."""
        numbers = store.collection("numbers", int)
        await asyncio.gather(*(numbers.update("key", add(n)) for n in range(100)))
        assert sum(range(100)) == await numbers.get("key")

    async def test_one_of_two_writers_wins(self, store: Store) -> None:
        """Of many writers that hold the same version exactly one gets through."""
        numbers = store.collection("numbers", int)
        for version in (0, await numbers.put("changed", 0)):
            key = "changed" if version else "new"
            puts = (numbers.put(key, n, version=version) for n in range(20))
            done = await asyncio.gather(*puts, return_exceptions=True)
            winners = [n for n, outcome in enumerate(done) if isinstance(outcome, int)]
            assert [await numbers.get(key)] == winners
            assert sum(isinstance(outcome, ConflictError) for outcome in done) == 19


class DurableStoreConformance(StoreConformance):
    """What every Store over data that outlives it must do besides."""

    @pytest_asyncio.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        """The store under test."""
        async with open_store() as store:
            yield store

    async def test_data_outlives_the_store(self, open_store: OpenStore) -> None:
        """What was put, and its version, is there when the data are opened again; what was undone is not."""
        async with open_store() as store:
            things = store.collection("things", Thing)
            version = await things.put("key", Thing("one"))
            async with undone(store):
                await things.put("undone", Thing("two"))
        async with open_store() as store:
            assert await store.collection("things", Thing).items() == [Record("key", Thing("one"), version)]

    async def test_two_stores_share_the_data(self, open_store: OpenStore) -> None:
        """Two stores open at once see each other's writes, but not before the transaction ends."""
        async with open_store() as first, open_store() as second:
            ours, theirs = (store.collection("numbers", int) for store in (first, second))
            async with first.transaction():
                await ours.put("key", 1)
                assert await theirs.get("key") is None
            assert await theirs.get("key") == 1

    async def test_two_stores_lose_no_update(self, open_store: OpenStore) -> None:
        """A hundred updates of one key at once through two stores all count."""
        async with open_store() as first, open_store() as second:
            both = [store.collection("numbers", int) for store in (first, second)]
            await asyncio.gather(*(both[n % 2].update("key", add(n)) for n in range(100)))
            assert sum(range(100)) == await both[0].get("key")

    async def test_two_stores_keep_transactions_apart(self, open_store: OpenStore) -> None:
        """Transactions of two stores that read and then write without a version lose no change."""
        async with open_store() as first, open_store() as second:

            async def increment(store: Store) -> None:
                numbers = store.collection("numbers", int)
                async with store.transaction():
                    await numbers.put("key", (await numbers.get("key") or 0) + 1)

            await asyncio.gather(*(increment(store) for store in (first, second) for _ in range(15)))
            assert await first.collection("numbers", int).get("key") == 30

    async def test_two_stores_can_start_at_once(self, open_store: OpenStore) -> None:
        """Several stores opened at the same moment on new data all work on the same data."""

        async def write(n: int) -> None:
            async with open_store() as store:
                await store.collection("numbers", int).put(str(n), n)

        await asyncio.gather(*(write(n) for n in range(5)))
        async with open_store() as store:
            assert list(range(5)) == [
                record.value for record in await store.collection("numbers", int).items()
            ]
