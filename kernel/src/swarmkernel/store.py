"""The Store: typed collections of values, each kept as JSON text under a collection's name and a key."""

import asyncio
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs
from cattrs.preconf.json import make_converter

from swarmkernel.errors import ConflictError, StoreError

T = TypeVar("T")
Handle = TypeVar("Handle")

MAX_KEY_BYTES: Final = 2000
"""Of a key in UTF-8; what PostgreSQL's index can hold, with room for the collection's name."""
OPTIMISTIC_TRIES: Final = 3
PATIENCE: Final = 30.0
"""Seconds that a write waits for the transaction before it."""


CONVERTER: Final = make_converter(detailed_validation=False)
"""Between values and what JSON can say, for every Store; unknown fields of stored data are ignored."""


@attrs.frozen
class Record(Generic[T]):
    """A stored value with its key and its version, which changes with every write and is never used twice."""

    key: str
    value: T
    version: int


@attrs.frozen
class Row:
    """What a store keeps under a key: a version and JSON text."""

    version: int
    text: str


@attrs.frozen
class _Held(Generic[Handle]):
    task: asyncio.Task[Any] | None
    handle: Handle


class Store(Protocol):
    """Where the server and its plugins keep what must outlive them."""

    def collection(self, name: str, kind: type[T]) -> "Collection[T]":
        """The values of type `kind` under `name`; nothing is made until the first write."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """All or nothing for the calls of this task inside it; an exception undoes them. See `RowStore`."""
        ...


class RowStore(ABC, Generic[Handle]):
    """A Store over rows of text. A new kind of store says how rows are read and written, and how to begin.

    At most one transaction of a store runs at a time, so that what it has read stays true until it ends.
    It belongs to the task that opened it: tasks started inside are outside of it, and their writes wait.
    A nested transaction that fails undoes its own writes only.
    """

    def __init__(self, *, patience: float = PATIENCE) -> None:
        """`patience`: seconds that a transaction waits for its turn before it fails with StoreError."""
        self._patience = patience
        self._turn = asyncio.Lock()
        self._open: ContextVar[_Held[Handle] | None] = ContextVar("open", default=None)

    def collection(self, name: str, kind: type[T]) -> "Collection[T]":
        """The values of type `kind` under `name`; nothing is made until the first write."""
        return Collection(self, name, kind)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All or nothing for the calls of this task inside it; an exception undoes them."""
        handle = self.current()
        async with self.writing() if handle is None else self.nest(handle):
            yield

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Handle]:
        """The transaction that the task is in, or one of its own."""
        handle = self.current()
        if handle is not None:
            yield handle
            return
        async with self._taking_turns(), self.begin() as handle:
            token = self._open.set(_Held(asyncio.current_task(), handle))
            try:
                yield handle
            finally:
                self._open.reset(token)

    def current(self) -> Handle | None:
        """The transaction that the running task is in."""
        held = self._open.get()
        return held.handle if held is not None and held.task is asyncio.current_task() else None

    @staticmethod
    def first_version() -> int:
        """Where a new row's versions start: by chance, so that who still holds an erased row's never matches."""
        return secrets.randbelow(2**52) + 1

    @asynccontextmanager
    async def _taking_turns(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                await self._turn.acquire()
        except TimeoutError:
            raise StoreError(
                f"The store is busy: an earlier transaction did not end within {self._patience:g} seconds"
            ) from None
        try:
            yield
        finally:
            self._turn.release()

    @abstractmethod
    def begin(self) -> AbstractAsyncContextManager[Handle]:
        """Open a transaction, as the only writer; commit it at the end, undo it on an exception."""

    @abstractmethod
    def nest(self, handle: Handle) -> AbstractAsyncContextManager[None]:
        """A part of an open transaction that is undone on an exception."""

    @abstractmethod
    async def read_row(self, collection: str, key: str) -> Row | None:
        """The row, as the transaction that the task is in sees it."""

    @abstractmethod
    async def write_row(self, collection: str, key: str, text: str, version: int | None) -> int:
        """Write and give the new version; ConflictError unless `version` is None or the row's (0: no row)."""

    @abstractmethod
    async def erase_row(self, collection: str, key: str, version: int | None) -> bool:
        """Whether there was a row to erase; ConflictError as for `write_row`."""

    @abstractmethod
    async def scan_rows(self, collection: str, prefix: str) -> list[tuple[str, Row]]:
        """The rows whose key starts with `prefix`, by key in the order of code points."""


@attrs.frozen
class Collection(Generic[T]):
    """Values of one type, by key. An absent key counts as version 0."""

    _store: RowStore[Any]
    name: str
    kind: type[T]

    async def get(self, key: str) -> T | None:
        """The value, or None where there is none."""
        record = await self.read(key)
        return None if record is None else record.value

    async def read(self, key: str) -> Record[T] | None:
        """The value with its version, or None where there is none."""
        row = await self._store.read_row(self.name, key) if storable(key) else None
        return None if row is None else self._record(key, row)

    async def put(self, key: str, value: T, *, version: int | None = None) -> int:
        """Write, and give the new version. With `version`, ConflictError unless it is the stored one."""
        if not storable(key):
            raise StoreError(f"{key[:80]!r} is no key: UTF-8 without NUL of {MAX_KEY_BYTES} bytes at most")
        return await self._store.write_row(self.name, key, self._text(value), version)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        """Whether there was something to delete. With `version`, ConflictError unless it is the stored one."""
        return storable(key) and await self._store.erase_row(self.name, key, version)

    async def items(self, prefix: str = "") -> list[Record[T]]:
        """What has a key that starts with `prefix` to the letter, by key in the order of code points."""
        rows = await self._store.scan_rows(self.name, prefix) if storable(prefix) else []
        return [self._record(key, row) for key, row in rows]

    async def update(self, key: str, change: Callable[[T | None], T | None]) -> T | None:
        """Write what `change` makes of the value (None: absent, before and after), losing nobody's change.

        `change` is called again where another writer came between, so it must be pure and quick.
        """
        for _ in range(OPTIMISTIC_TRIES):
            try:
                return await self._swap(key, change)
            except ConflictError:
                continue
        async with self._store.transaction():
            return await self._swap(key, change)

    async def _swap(self, key: str, change: Callable[[T | None], T | None]) -> T | None:
        old = await self.read(key)
        new = change(None if old is None else old.value)
        if new is not None:
            await self.put(key, new, version=0 if old is None else old.version)
        elif old is not None:
            await self.delete(key, version=old.version)
        return new

    def _text(self, value: T) -> str:
        return json.dumps(CONVERTER.unstructure(value, unstructure_as=self.kind), separators=(",", ":"))

    def _record(self, key: str, row: Row) -> Record[T]:
        try:
            value = CONVERTER.structure(json.loads(row.text), self.kind)
        except Exception as error:
            raise StoreError(f"{self.name}/{key} does not hold a {self.kind}: {error!r}") from error
        return Record(key, value, row.version)


def storable(key: str) -> bool:
    """Whether every store can hold the key: UTF-8 without NUL, not too long."""
    try:
        return "\0" not in key and len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:  # lone surrogates
        return False


Draft = dict[tuple[str, str], Row | None]
"""Rows written by a transaction, None for erased ones."""


class MemoryStore(RowStore[Draft]):
    """A Store that forgets: for tests, and for servers that need nothing after a restart."""

    def __init__(self, *, patience: float = PATIENCE) -> None:
        """`patience`: as for RowStore."""
        super().__init__(patience=patience)
        self._rows: dict[tuple[str, str], Row] = {}

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Draft]:
        """Collect writes in a draft; keep them at the end."""
        draft: Draft = {}
        yield draft
        for place, row in draft.items():
            if row is None:
                self._rows.pop(place, None)
            else:
                self._rows[place] = row

    @asynccontextmanager
    async def nest(self, handle: Draft) -> AsyncIterator[None]:
        """Put the draft back as it was on an exception."""
        before = dict(handle)
        try:
            yield
        except BaseException:
            handle.clear()
            handle.update(before)
            raise

    async def read_row(self, collection: str, key: str) -> Row | None:
        """The row, as the transaction that the task is in sees it."""
        draft = self.current() or {}
        place = (collection, key)
        return draft[place] if place in draft else self._rows.get(place)

    async def write_row(self, collection: str, key: str, text: str, version: int | None) -> int:
        """Write and give the new version; ConflictError unless `version` is None or the row's (0: no row)."""
        async with self._expecting(collection, key, version) as (draft, old):
            row = Row(self.first_version() if old is None else old.version + 1, text)
            draft[collection, key] = row
        return row.version

    async def erase_row(self, collection: str, key: str, version: int | None) -> bool:
        """Whether there was a row to erase; ConflictError as for `write_row`."""
        async with self._expecting(collection, key, version) as (draft, old):
            draft[collection, key] = None
        return old is not None

    async def scan_rows(self, collection: str, prefix: str) -> list[tuple[str, Row]]:
        """The rows whose key starts with `prefix`, by key in the order of code points."""
        rows: Draft = {**self._rows, **(self.current() or {})}
        return sorted(
            (key, row)
            for (name, key), row in rows.items()
            if name == collection and key.startswith(prefix) and row is not None
        )

    @asynccontextmanager
    async def _expecting(
        self, collection: str, key: str, version: int | None
    ) -> AsyncIterator[tuple[Draft, Row | None]]:
        async with self.writing() as draft:
            old = await self.read_row(collection, key)
            if version not in (None, 0 if old is None else old.version):
                raise ConflictError(f"{collection}/{key} was changed by another writer")
            yield draft, old
