"""Changes of what is kept: one at a time, on fresh data, and heard of by every process."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs

from swarmkernel import Collection, Store, StoreError

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
COUNTER = "changes"
#: No count: the next look takes whatever there is for news.
UNKNOWN = -1

Reload: TypeAlias = Callable[[], Awaitable[None]]
#: Takes what is to be done in memory once the transaction is committed.
OnCommit: TypeAlias = Callable[[Callable[[], None]], None]


@attrs.define
class Changes:
    """
    Counts changes in the store, so that other processes' copies in memory follow.

    Copies add themselves with `keep`; who acts on changes, with `listen`.
    """

    _store: Store
    _counter: Collection[int]
    _count: int = attrs.field(default=0, init=False)
    _copies: list[Reload] = attrs.field(factory=list, init=False)
    _listeners: list[Reload] = attrs.field(factory=list, init=False)
    _lock: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    _writer: asyncio.Task[object] | None = attrs.field(default=None, init=False)
    _steps: list[Callable[[], None]] = attrs.field(factory=list, init=False)

    @classmethod
    def of(cls, store: Store) -> "Changes":
        """Count the changes in *store*."""
        return cls(store, store.collection("accounts_state", int))

    def keep(self, reload: Reload) -> None:
        """Call *reload* when memory has to be read anew from the store."""
        self._copies.append(reload)

    def listen(self, listener: Reload) -> None:
        """Call *listener* after each change, here or in another process."""
        self._listeners.append(listener)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[OnCommit]:
        """
        A transaction of the only writer, who sees memory as the store is; then listeners are told.

        Inside, write to the store only, and hand what is to be done in memory to what this yields. It can be nested,
        but memory follows at the very end, so the parts must not build on one another. Begin it outside of the
        store's own transactions: who holds one of those and waits here would wait for somebody who waits for them.
        """
        if self._is_writing():
            yield self._steps.append
            return
        async with self._lock:
            self._writer = asyncio.current_task()
            try:
                async with self._store.transaction():
                    count = await self._counter.update(COUNTER, lambda old: (old or 0) + 1) or 0
                    await self._catch_up(count - 1)
                    yield self._steps.append
                self._count = count
                for step in self._steps:
                    step()
            finally:
                self._writer = None
                self._steps.clear()
        await self._tell()

    async def refresh(self) -> None:
        """Take in what other processes changed."""
        if self._is_writing():
            return  # memory was made fresh at the beginning
        async with self._lock:
            is_news = await self._catch_up(await self._counter.get(COUNTER) or 0)
        if is_news:
            await self._tell()

    async def watch(self) -> None:
        """Look for other processes' changes for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.refresh()
            except StoreError as exc:
                log.warning("cannot look for changes of accounts: %s", exc)

    def _is_writing(self) -> bool:
        return self._writer is not None and self._writer is asyncio.current_task()

    async def _catch_up(self, count: int) -> bool:
        if count == self._count:
            return False
        for reload in self._copies:
            await reload()
        self._count = count
        return True

    async def _tell(self) -> None:
        for listener in self._listeners:
            try:
                await listener()
            except asyncio.CancelledError:
                self._count = UNKNOWN
                raise
            except StoreError as exc:
                log.warning("a change of accounts has yet to be followed up: %s", exc)
                self._count = UNKNOWN
            except Exception:
                log.exception("a change of accounts was not followed up")
