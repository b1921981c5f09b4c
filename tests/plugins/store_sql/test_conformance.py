"""Both databases do what every store must do."""

import pytest

from swarmkernel.testing.store import DurableStoreConformance


class TestSqlite(DurableStoreConformance):
    """The conformance suite on an SQLite file."""

    @pytest.fixture
    def open_store(self, open_sqlite):
        """Opens the same file each time."""
        return open_sqlite


class TestPostgresql(DurableStoreConformance):
    """The conformance suite on a real PostgreSQL server."""

    @pytest.fixture
    def open_store(self, open_postgresql):
        """Opens the same database each time."""
        return open_postgresql
