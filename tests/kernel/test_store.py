"""The store in memory, and what no store may do differently."""

import asyncio
from typing import Any

import pytest

from swarmkernel import MemoryStore, Store, StoreError
from swarmkernel.testing.store import StoreConformance


class TestMemoryStore(StoreConformance):
    """The conformance suite on the store in memory."""

    @pytest.fixture
    def store(self) -> Store:
        """An empty store."""
        return MemoryStore()


async def test_waiting_for_ones_own_transaction_ends():
    """A write that waits for a transaction that waits for it fails with a text that says so, and is not made."""
    store = MemoryStore(patience=0.05)
    numbers = store.collection("numbers", int)
    async with store.transaction():
        with pytest.raises(StoreError, match=r"did not end within 0\.05 seconds"):
            await asyncio.create_task(numbers.put("key", 1))
    assert await numbers.items() == []


async def test_text_is_plain_json():
    """Values are kept as compact JSON in ASCII, which every database can hold and every tool can read."""
    store = MemoryStore()
    await store.collection("free", dict[str, Any]).put("key", {"é": [1, None]})
    row = await store.read_row("free", "key")
    assert '{"\\u00e9":[1,null]}' == row.text
