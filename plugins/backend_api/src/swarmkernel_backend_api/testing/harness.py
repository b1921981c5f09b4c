"""Real backends without a server around them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from swarmkernel import MemoryStore, Store, Vault
from swarmkernel_backend_api.backends import Backends
from swarmkernel_backend_api.records import Records
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.types import BackendType

IMPATIENT = {
    "init_pause_seconds": 0.05,
    "restart_pause_seconds": 0.05,
    "interrupt_seconds": 0.5,
    "terminate_seconds": 0.5,
    "stop_seconds": 2.0,
    "drain_seconds": 2.0,
    "threads": 1,
}
"""Settings with which tests do not wait long."""

VAULT = Vault("of tests", Path())
"""The key under which the secrets of such backends are stored."""


@asynccontextmanager
async def fleet(
    types: Iterable[BackendType], store: Store | None = None, vault: Vault = VAULT, **settings: Any
) -> AsyncIterator[Backends]:
    """The service ``Backends`` over real worker processes, with impatient settings; everything is stopped at the end."""
    limits = BackendApiSettings(**IMPATIENT | settings)
    backends = Backends({kind.id: kind for kind in types}, limits, Records.of(store or MemoryStore(), vault))
    try:
        await backends.load()
        yield backends
    finally:
        await backends.close()


async def until(backends: Backends, condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds of the backends; ``TimeoutError`` if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await backends.changed(0.05)
