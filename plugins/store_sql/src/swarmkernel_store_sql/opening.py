"""From settings to an open store."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from swarmkernel import StartupError, Store
from swarmkernel_store_sql.settings import Settings
from swarmkernel_store_sql.sqlite import open_sqlite

FILE_NAME = "swarmkernel.db"


def open_store(settings: Settings, data_dir: Path) -> AbstractAsyncContextManager[Store]:
    """The store that the settings name; StartupError where it cannot be used."""
    if not settings.url:
        return open_sqlite(data_dir / FILE_NAME)
    url = _parsed(settings.url)
    match url.get_backend_name():
        case "sqlite":
            return open_sqlite(data_dir / _file(url))
        case "postgresql" | "postgres":
            from swarmkernel_store_sql.postgresql import open_postgresql  # noqa: PLC0415  # not for SQLite

            return open_postgresql(url)
        case other:
            raise StartupError(f"[store_sql] url: {other!r} is not supported; use sqlite or postgresql")


def _parsed(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):  # whose texts may hold the password
        raise StartupError(
            "[store_sql] url: not a URL such as postgresql://user:password@host/database"
        ) from None


def _file(url: URL) -> str:
    if url.database in (None, "", ":memory:") or url.host or url.query:
        raise StartupError(
            "[store_sql] url: SQLite needs a file, as in sqlite:///swarmkernel.db, and no options"
        )
    return str(url.database)
