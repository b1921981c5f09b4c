"""What store_sql tells the kernel."""

from contextlib import AbstractAsyncContextManager

from swarmkernel import ServerSettings, Services, Store, hookimpl
from swarmkernel_store_sql.settings import Settings


@hookimpl
def swarm_settings() -> type[Settings]:
    """The table [store_sql]."""
    return Settings


@hookimpl
def swarm_store(services: Services) -> AbstractAsyncContextManager[Store]:
    """The store that the settings name, open while the server runs."""
    from swarmkernel_store_sql.opening import open_store  # noqa: PLC0415  # SQLAlchemy: most commands open no store

    return open_store(services.get(Settings), services.get(ServerSettings).data_dir)
