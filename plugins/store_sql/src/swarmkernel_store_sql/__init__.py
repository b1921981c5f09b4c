"""The durable Store: SQLite by default, PostgreSQL by URL."""

from swarmkernel_store_sql.opening import open_store
from swarmkernel_store_sql.settings import Settings

__all__ = ["Settings", "open_store"]
