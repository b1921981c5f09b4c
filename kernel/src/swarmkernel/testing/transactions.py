"""What every Store's transactions must do; a part of `StoreConformance`."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from swarmkernel.errors import ConflictError
from swarmkernel.store import Record, Store


def add(number: int) -> Callable[[int | None], int]:
    """A change for `update`: add to what is there."""
    return lambda old: (old or 0) + number


@asynccontextmanager
async def undone(store: Store) -> AsyncIterator[None]:
    """A transaction that fails at its end."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # the exception must cross the transaction
        async with store.transaction():
            yield
            raise ZeroDivisionError


@pytest.mark.asyncio
class TransactionConformance:
    """What every Store's transactions must do."""

    async def test_a_transaction_keeps_all_its_writes(self, store: Store) -> None:
        """Inside a transaction its writes are seen; after it they are there, in all collections."""
        numbers, texts = store.collection("numbers", int), store.collection("texts", str)
        await numbers.put("old", 1)
        async with store.transaction():
            await numbers.put("new", 2)
            await texts.put("new", "2")
            await numbers.delete("old")
            await numbers.update("new", add(1))
            assert [record.key for record in await numbers.items()] == ["new"]
        assert await numbers.get("new") == 3
        assert await texts.get("new") == "2"
        assert await numbers.get("old") is None

    async def test_an_exception_undoes_a_transaction(self, store: Store) -> None:
        """An exception that leaves a transaction passes through and undoes its puts, deletes and updates."""
        numbers = store.collection("numbers", int)
        version = await numbers.put("old", 1)
        async with undone(store):
            await numbers.put("new", 1)
            await numbers.update("old", add(1))
            await numbers.delete("old")
        assert await numbers.items() == [Record("old", 1, version)]

    async def test_a_conflict_inside_a_transaction_can_be_handled(self, store: Store) -> None:
        """A ConflictError that is caught inside a transaction leaves the rest of it alone."""
        numbers = store.collection("numbers", int)
        async with store.transaction():
            await numbers.put("one", 1)
            with pytest.raises(ConflictError):
                await numbers.put("one", 2, version=0)
            await numbers.put("two", 2)
        assert [record.value for record in await numbers.items()] == [1, 2]

    async def test_transactions_nest(self, store: Store) -> None:
        """A nested transaction joins the outer one; one that fails undoes its own writes only."""
        numbers = store.collection("numbers", int)
        async with store.transaction():
            await numbers.put("outer", 1)
            async with store.transaction():
                await numbers.put("inner", 1)
            async with undone(store):
                await numbers.update("outer", add(1))
                await numbers.delete("inner")
        assert [(record.key, record.value) for record in await numbers.items()] == [
            ("inner", 1),
            ("outer", 1),
        ]

    async def test_an_outer_exception_undoes_nested_transactions(self, store: Store) -> None:
        """What a nested transaction wrote is undone with the outer one."""
        numbers = store.collection("numbers", int)
        async with undone(store), store.transaction():
            await numbers.put("inner", 1)
        assert await numbers.items() == []

    async def test_other_tasks_are_outside_of_a_transaction(self, store: Store) -> None:
        """A task started inside a transaction sees nothing of it, and its own writes outlive its failure."""
        numbers = store.collection("numbers", int)
        async with undone(store):
            await numbers.put("mine", 1)
            assert await asyncio.create_task(numbers.get("mine")) is None
            writing = asyncio.create_task(numbers.put("other", 2))
            await asyncio.sleep(0.05)
        await writing
        assert [record.key for record in await numbers.items()] == ["other"]

    async def test_what_a_transaction_has_read_stays_true(self, store: Store) -> None:
        """Concurrent transactions that read and then write without a version lose no change."""
        numbers = store.collection("numbers", int)

        async def increment() -> None:
            async with store.transaction():
                old = await numbers.get("key")
                await asyncio.sleep(0)
                await numbers.put("key", (old or 0) + 1)

        await asyncio.gather(*(increment() for _ in range(30)))
        assert await numbers.get("key") == 30

    async def test_transactions_keep_sums(self, store: Store) -> None:
        """While transactions move amounts between keys, a transaction that reads all of them sees one sum."""
        numbers = store.collection("numbers", int)
        for key in "abc":
            await numbers.put(key, 100)

        async def move(source: str, target: str) -> None:
            async with store.transaction():
                await numbers.update(source, add(-7))
                await numbers.update(target, add(7))

        async def total() -> int:
            async with store.transaction():
                return sum([await numbers.get(key) or 0 for key in "abc"])

        moves = [move(*random.Random(n).sample("abc", 2)) for n in range(20)]
        sums = await asyncio.gather(*moves, *(total() for _ in range(10)))
        assert {300} == {found for found in sums if found is not None}

    async def test_a_cancelled_transaction_is_undone(self, store: Store) -> None:
        """A task that is cancelled inside a transaction leaves nothing behind, and the next one gets its turn."""
        numbers = store.collection("numbers", int)
        inside = asyncio.Event()

        async def stuck() -> None:
            async with store.transaction():
                await numbers.put("key", 1)
                inside.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(stuck())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await numbers.get("key") is None
        assert await numbers.update("key", add(5)) == 5

    async def test_cancelled_writes_are_whole_or_absent(self, store: Store) -> None:
        """Tasks that are cancelled at any moment leave both of their writes or none, and a store that works."""
        numbers = store.collection("numbers", int)

        async def both(n: int) -> None:
            async with store.transaction():
                await numbers.put(f"a{n}", n)
                await numbers.put(f"b{n}", n)

        for n in range(30):
            task = asyncio.create_task(both(n))
            await asyncio.sleep(n * 0.0002)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        kept = [[record.value for record in await numbers.items(letter)] for letter in "ab"]
        assert kept[0] == kept[1]
        assert await numbers.update("key", add(5)) == 5
