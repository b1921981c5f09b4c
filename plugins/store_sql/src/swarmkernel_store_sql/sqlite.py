"""The Store in an SQLite file."""

import asyncio
import contextlib
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Executable, NullPool, create_engine, event, inspect
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from swarmkernel import StartupError, Store, StoreError
from swarmkernel_store_sql.schema import check_schema, is_laid_out, lay_out
from swarmkernel_store_sql.sql import SqlStore, said

BUSY_SECONDS: Final = 5
"""How long a write waits for another process."""
MAX_LOG_BYTES: Final = 64 * 2**20
ACCESS_ERRORS: Final = (
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY),
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
)
FLUSH_ERRORS: Final = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


class SqliteStore(SqlStore):
    """A Store in a file. One writer at a time, readers beside it."""

    _failed: StoreError | None = None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Take the file's write lock; commit at the end."""
        if self._failed is not None:
            raise StoreError(str(self._failed))
        async with self.connected(immediate=True) as conn, self.whole(conn.begin()):
            yield conn

    async def _write(self, statement: Executable) -> int | None:
        async with self.writing() as conn:
            return await self.execute(conn, statement)

    def explain(self, error: DBAPIError) -> StoreError:
        """Our error for the database's; after a failed flush the store writes no more."""
        code = getattr(error.orig, "sqlite_errorcode", 0)
        if code in FLUSH_ERRORS:
            # The system may have dropped what it could not flush, and a second flush would not say so.
            self._failed = StoreError(
                f"{self.where} could not be flushed to disk; check it and restart the server"
            )
            return self._failed
        match code & 0xFF:
            case sqlite3.SQLITE_FULL:
                return StoreError(f"The disk of {self.where} is full: nothing was written. Free some space.")
            case sqlite3.SQLITE_BUSY:
                return StoreError(
                    f"{self.where} is busy: another process holds it for over {BUSY_SECONDS} seconds"
                )
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return StoreError(_damaged(self.where, said(error)))
        return StoreError(f"{self.where}: {said(error)}")


@asynccontextmanager
async def open_sqlite(file: Path) -> AsyncIterator[Store]:
    """The store in a file, which is made when it is missing; StartupError where it cannot be trusted."""
    await asyncio.to_thread(_prepare, file)
    url = URL.create("sqlite+aiosqlite", database=str(file))
    connect = {"timeout": BUSY_SECONDS, "isolation_level": None}
    engine = create_async_engine(url, connect_args=connect, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _configure)
    event.listen(engine.sync_engine, "begin", _begin)
    try:
        yield SqliteStore(engine, str(file), insert)
    finally:
        await engine.dispose()


def _configure(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}")
    cursor.close()


def _begin(conn: Connection) -> None:
    """The driver begins nothing by itself: reads need no transaction, writers take the lock at once."""
    if conn.get_execution_options().get("immediate"):
        conn.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _create(file)
        with contextlib.suppress(PermissionError):  # the file is somebody else's, who set its mode
            file.chmod(0o600)
        _check(file)
    except OSError as error:
        raise StartupError(
            f"{file}: {error.strerror}. The server must be able to read and write it."
        ) from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in ACCESS_ERRORS:
            raise StartupError(
                f"{file}: {said(error)}. The server must be able to read and write it."
            ) from error
        raise StartupError(_damaged(str(file), said(error))) from error
    except UnicodeDecodeError as error:  # in the name of a table, or in SQLite's report
        raise StartupError(_damaged(str(file), "it holds text that is none")) from error


def _create(file: Path) -> None:
    """Make the file complete before it gets its name: an empty file of that name is then always damage."""
    handle, name = tempfile.mkstemp(prefix=f"{file.name}.new-", dir=file.parent)  # mode 0600
    try:
        with _connection(Path(name)) as conn:
            lay_out(conn)
        os.fsync(handle)
        _name(Path(name), file)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _name(made: Path, file: Path) -> None:
    try:
        file.hardlink_to(made)  # unlike a rename, never replaces what another server has just made
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        made.rename(file)


def _check(file: Path) -> None:
    if not file.stat().st_size:
        raise StartupError(_damaged(str(file), "it is empty"))
    with _connection(file) as conn:
        report = conn.exec_driver_sql("PRAGMA quick_check").scalar()
        if report != "ok":
            raise StartupError(_damaged(str(file), str(report).split("\n")[-1]))
        if not is_laid_out(conn):
            tables = ", ".join(inspect(conn).get_table_names()) or "no tables"
            raise StartupError(
                f"{file} is not a store of SwarmKernel's (it has {tables}). Move it away to start anew."
            )
        check_schema(conn, str(file))


@contextlib.contextmanager
def _connection(file: Path) -> Iterator[Connection]:
    engine = create_engine(
        URL.create("sqlite", database=str(file)), poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS}
    )
    with engine.begin() as conn:
        yield conn


def _damaged(where: str, how: str) -> str:
    return (
        f"{where} is damaged ({how}). Restore a backup, or save what is left with `sqlite3 {where} .recover`, "
        "or move the file away to start anew."
    )
