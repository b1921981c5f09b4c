"""What the store does in every database."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, ClassVar, TypeVar

from sqlalchemy import ColumnElement, Executable, Select, and_, delete, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction

from swarmkernel import ConflictError, Row, RowStore, StoreError
from swarmkernel_store_sql.schema import ROWS

T = TypeVar("T")


class SqlStore(RowStore[AsyncConnection]):
    """A Store in the table `swarm_rows`. What databases do differently is in the subclasses."""

    alone: ClassVar[dict[str, Any]] = {}
    """SQLAlchemy's execution options of a connection that one statement is for."""

    def __init__(self, engine: AsyncEngine, where: str, insert: Callable[..., Any]) -> None:
        """`where`: the database's name for people, without secrets. `insert`: the dialect's, which can upsert."""
        super().__init__()
        self._engine = engine
        self.where = where
        self._insert = insert

    @asynccontextmanager
    async def nest(self, handle: AsyncConnection) -> AsyncIterator[None]:
        """A savepoint."""
        async with self.whole(handle.begin_nested()):
            yield

    async def read_row(self, collection: str, key: str) -> Row | None:
        """The row, as the transaction that the task is in sees it."""
        found = await self._fetch(select(ROWS.c.version, ROWS.c.value).where(_at(collection, key)))
        return Row(*found[0]) if found else None

    async def write_row(self, collection: str, key: str, text: str, version: int | None) -> int:
        """Write and give the new version; ConflictError unless `version` is None or the row's (0: no row)."""
        if version:
            changed = update(ROWS).where(_at(collection, key), ROWS.c.version == version)
            statement = changed.values(value=text, version=version + 1)
        else:
            new = {"collection": collection, "key": key, "version": self.first_version(), "value": text}
            statement = (
                self._upsert(new)
                if version is None
                else self._insert(ROWS).values(new).on_conflict_do_nothing()
            )
        written = await self._write(statement.returning(ROWS.c.version))
        if written is None:
            raise _late(collection, key)
        return written

    def _upsert(self, new: dict[str, Any]) -> Any:
        insert = self._insert(ROWS).values(new)
        return insert.on_conflict_do_update(
            index_elements=[ROWS.c.collection, ROWS.c.key],
            set_={"value": insert.excluded.value, "version": ROWS.c.version + 1},
        )

    async def erase_row(self, collection: str, key: str, version: int | None) -> bool:
        """Whether there was a row to erase; ConflictError as for `write_row`."""
        if version == 0:
            if await self.read_row(collection, key) is not None:
                raise _late(collection, key)
            return False
        statement = delete(ROWS).where(_at(collection, key))
        if version is not None:
            statement = statement.where(ROWS.c.version == version)
        erased = await self._write(statement.returning(ROWS.c.version)) is not None
        if version is not None and not erased:
            raise _late(collection, key)
        return erased

    async def scan_rows(self, collection: str, prefix: str) -> list[tuple[str, Row]]:
        """The rows whose key starts with `prefix`, by key in the order of code points."""
        query = select(ROWS.c.key, ROWS.c.version, ROWS.c.value).where(ROWS.c.collection == collection)
        query = query.where(ROWS.c.key >= prefix).order_by(ROWS.c.key)
        end = after(prefix)
        found = await self._fetch(query if end is None else query.where(ROWS.c.key < end))
        return [(key, Row(version, text)) for key, version, text in found]

    async def _fetch(self, query: Select[Any]) -> list[Any]:
        conn = self.current()
        if conn is None:
            async with self.connected(**self.alone) as conn:
                return await self._fetch_from(conn, query)
        return await self._fetch_from(conn, query)

    async def _fetch_from(self, conn: AsyncConnection, query: Select[Any]) -> list[Any]:
        with self.explaining():
            return list((await uninterrupted(conn.execute(query))).all())

    async def execute(self, conn: AsyncConnection, statement: Executable) -> int | None:
        """Run what returns the version of one row at most."""
        with self.explaining():
            return (await uninterrupted(conn.execute(statement))).scalar_one_or_none()

    @asynccontextmanager
    async def connected(self, **options: Any) -> AsyncIterator[AsyncConnection]:
        """A connection of the pool, with SQLAlchemy's execution options."""
        conn = self._engine.execution_options(**options).connect()
        try:
            try:
                await uninterrupted(conn.start())
            except Exception as error:  # drivers raise anything here, OSError and their own
                raise StoreError(f"{self.where} cannot be reached: {said(error)}") from error
            yield conn
        finally:
            if conn.sync_connection is not None:
                with self.explaining():
                    await uninterrupted(conn.close())

    @asynccontextmanager
    async def whole(self, transaction: AsyncTransaction) -> AsyncIterator[None]:
        """Begin, and commit or roll back."""
        with self.explaining():
            await uninterrupted(transaction.start())
            try:
                yield
            except BaseException:
                await uninterrupted(transaction.rollback())
                raise
            await uninterrupted(transaction.commit())

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn the database's errors into ours."""
        try:
            yield
        except DBAPIError as error:
            raise self.explain(error) from error
        except SQLAlchemyError as error:
            raise StoreError(f"{self.where}: {said(error)}") from error

    @abstractmethod
    async def _write(self, statement: Executable) -> int | None:
        """Run one statement, in the task's transaction or in one of its own, and give what it returns."""

    @abstractmethod
    def explain(self, error: DBAPIError) -> StoreError:
        """Our error for the database's."""


async def uninterrupted(work: Awaitable[T]) -> T:
    """Finish the work before a cancellation takes effect.

    A connection that is left in the middle of a statement keeps its lock until it is closed, for seconds.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # which the cancellation hides
        raise


def said(error: BaseException) -> str:
    """The error's own words, without the statement that SQLAlchemy adds."""
    cause = getattr(error, "orig", None) or error
    return (str(cause) or type(cause).__name__).strip().split("\n")[0]


def after(prefix: str) -> str | None:
    """The first text beyond all that start with `prefix`, in the order of code points; None if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


def _at(collection: str, key: str) -> ColumnElement[bool]:
    return and_(ROWS.c.collection == collection, ROWS.c.key == key)


def _late(collection: str, key: str) -> ConflictError:
    return ConflictError(f"{collection}/{key} was changed by another writer")
