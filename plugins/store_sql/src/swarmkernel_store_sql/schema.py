"""The tables, the same in every database."""

from typing import Final

from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, Text, inspect, select

from swarmkernel import StartupError

SCHEMA: Final = 1
"""Raised when an older store_sql could not read what this one writes."""

METADATA: Final = MetaData()
# Compared byte by byte: SQLite's own way, and in UTF-8 the order of code points.
_KEY: Final = Text().with_variant(Text(collation="C"), "postgresql")

META: Final = Table("swarm_meta", METADATA, Column("key", Text, primary_key=True), Column("value", Text))
ROWS: Final = Table(
    "swarm_rows",
    METADATA,
    Column("collection", _KEY, primary_key=True),
    Column("key", _KEY, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,  # each key is in one place only, so that quick_check sees all damage
)


def is_laid_out(conn: Connection) -> bool:
    """Whether the database has our tables."""
    return inspect(conn).has_table(META.name)


def lay_out(conn: Connection) -> None:
    """Make the tables, and note which schema they have."""
    METADATA.create_all(conn)
    conn.execute(META.insert().values(key="schema", value=str(SCHEMA)))


def check_schema(conn: Connection, where: str) -> None:
    """StartupError unless this program can read and write the tables."""
    found = conn.scalar(select(META.c.value).where(META.c.key == "schema")) or ""
    if not found.isdecimal():
        raise StartupError(
            f"{where} is damaged: it does not say which schema it has. Restore a backup of it."
        )
    if int(found) > SCHEMA:
        raise StartupError(
            f"{where} was written by a newer version (schema {found}, known here: {SCHEMA}). "
            "Upgrade swarmkernel-store-sql, or restore a copy from before the upgrade."
        )
