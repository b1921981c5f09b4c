"""The Store in a PostgreSQL database."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import ClassVar, Final

from sqlalchemy import Connection, Executable, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from swarmkernel import ConflictError, StartupError, Store, StoreError
from swarmkernel_store_sql.schema import ROWS, check_schema, is_laid_out, lay_out
from swarmkernel_store_sql.sql import SqlStore, said, uninterrupted

TRIES: Final = 6
"""Of a write that PostgreSQL refuses because of others, the first included."""
LOCK_MILLISECONDS: Final = 30_000
CONNECT_SECONDS: Final = 10
LOCK: Final = text(f"LOCK TABLE {ROWS.name} IN SHARE ROW EXCLUSIVE MODE")
SETUP_LOCK: Final = 0x5357_4B53
"""Any number, the same for all servers that share a database."""


class PostgresqlStore(SqlStore):
    """A Store that several servers may share."""

    alone: ClassVar = {"isolation_level": "AUTOCOMMIT"}

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Keep all other writers out, as SQLite does, and readers in; commit at the end."""
        async with self.connected() as conn, self.whole(conn.begin()):
            await uninterrupted(conn.execute(LOCK))
            yield conn

    async def _write(self, statement: Executable) -> int | None:
        conn = self.current()
        if conn is not None:
            return await self.execute(conn, statement)
        for trial in range(1, TRIES):
            try:
                return await self._write_alone(statement)
            except ConflictError:
                await asyncio.sleep(random.uniform(0, 0.01 * 2**trial))
        return await self._write_alone(statement)

    async def _write_alone(self, statement: Executable) -> int | None:
        async with self.connected(**self.alone) as conn:
            return await self.execute(conn, statement)

    def explain(self, error: DBAPIError) -> StoreError:
        """Our error for the database's."""
        match getattr(error.orig, "sqlstate", None):
            case "40001" | "40P01":  # serialization failure, deadlock
                return ConflictError(f"{self.where}: {said(error)}")
            case "55P03":  # lock not available
                return StoreError(
                    f"{self.where} is busy: another writer holds it for over {LOCK_MILLISECONDS} ms"
                )
            case "53100":  # disk full
                return StoreError(f"The disk of {self.where} is full: nothing was written. Free some space.")
        return StoreError(f"{self.where}: {said(error)}")


@asynccontextmanager
async def open_postgresql(url: URL) -> AsyncIterator[Store]:
    """The store in a database, which must exist; StartupError where it cannot be used."""
    if find_spec("asyncpg") is None:
        raise StartupError(
            "PostgreSQL needs another package: pip install 'swarmkernel-store-sql[postgresql]'"
        )
    engine = _engine(url)
    try:
        store = PostgresqlStore(engine, _name(url), insert)
        await _prepare(store)
        yield store
    finally:
        await engine.dispose()


def _engine(url: URL) -> AsyncEngine:
    query = {
        "ssl" if name == "sslmode" else name: value for name, value in url.query.items()
    }  # asyncpg's name
    settings = {
        "application_name": "swarmkernel",
        "lock_timeout": str(LOCK_MILLISECONDS),
        "idle_in_transaction_session_timeout": str(2 * LOCK_MILLISECONDS),  # of a server that was cut off
    }
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg", query=query),
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": 2 * LOCK_MILLISECONDS / 1000,
            "server_settings": settings,
        },
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,  # finds out that the database was restarted
        hide_parameters=True,
    )


def _name(url: URL) -> str:
    """The database's name for people: no user, no password, no options."""
    return f"PostgreSQL database {url.database} on {url.host or url.query.get('host') or 'localhost'}"


async def _prepare(store: PostgresqlStore) -> None:
    try:
        async with store.connected() as conn, store.whole(conn.begin()):
            await conn.execute(text(f"SELECT pg_advisory_xact_lock({SETUP_LOCK})"))
            await conn.run_sync(_set_up, store.where)
    except StoreError as error:
        raise StartupError(f"{error}. Check [store_sql] url and the database.") from error


def _set_up(conn: Connection, where: str) -> None:
    encoding = conn.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise StartupError(f"{where} has the encoding {encoding}; make one with ENCODING 'UTF8'.")
    if not is_laid_out(conn):
        lay_out(conn)
    check_schema(conn, where)
