"""The life of this package's services."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from operator import attrgetter

from swarmkernel import Plugins, Services, Store, Vault
from swarmkernel_backend_api.backends import Backends
from swarmkernel_backend_api.claims import Claims
from swarmkernel_backend_api.engines import to_add
from swarmkernel_backend_api.errors import BackendError
from swarmkernel_backend_api.interpreters import offering, warn_of_missing
from swarmkernel_backend_api.records import Records
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.types import NewBackend

log = logging.getLogger(__name__)


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Offer ``Backends`` and ``Claims``, with all stored backends starting; at the end no worker is left."""
    plugins, settings = services.get(Plugins), services.get(BackendApiSettings)
    found = plugins.collect("backend_types", key=attrgetter("id"), services=services)
    types = {name: offering(kind, settings.interpreters) for name, kind in found.items()}
    warn_of_missing(settings.interpreters)
    records = Records.of(services.get(Store), services.get(Vault))  # type: ignore[type-abstract]  # a protocol as a key
    claims = Claims()
    backends = Backends(types, settings, records)
    services.add(Backends, backends)
    services.add(Claims, claims)
    cleaner = asyncio.create_task(free_when_idle(backends, claims, settings))
    try:
        missing = await _missing(plugins, backends, services)
        await backends.load()
        await add_defaults(backends, missing)
        yield
    finally:
        cleaner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cleaner
        await backends.close()


async def _missing(plugins: Plugins, backends: Backends, services: Services) -> list[NewBackend]:
    """The backends that packages propose and that this start adds."""
    engine, records = backends.limits.engine, backends.records
    if not engine and await records.ever():
        return []
    key = attrgetter("type_id", "title")
    proposed = plugins.collect("backend_defaults", key=key, services=services)
    return await to_add(records, backends.types, engine, list(proposed.values()))


async def add_defaults(backends: Backends, proposed: Iterable[NewBackend]) -> None:
    """Add the backends that packages want to exist on a first start."""
    for new in proposed:
        try:
            await backends.add(new.type_id, new.settings, new.title)
        except BackendError as error:
            log.error("The default backend %r cannot be added: %s", new.type_id, error.text)  # noqa: TRY400  # the text says it all


async def free_when_idle(
    backends: Backends, claims: Claims, settings: BackendApiSettings, *, look_seconds: float = 1.0
) -> None:
    """Free device memory, and later host memory, once in each period without work."""
    waits = {
        False: settings.clear_vram_after_minutes * 60,
        True: settings.clear_system_ram_after_minutes * 60,
    }
    since, done = time.monotonic(), set[bool]()
    while True:
        await asyncio.sleep(look_seconds)
        if claims.total("waiting_gens") or any(slot.touched for slot in backends):
            since, done = time.monotonic(), set()
            continue
        for system_ram, wait in waits.items():
            if wait >= 0 and system_ram not in done and time.monotonic() - since >= wait:
                done.add(system_ram)
                await backends.free_memory([s for s in backends if s.serving], system_ram=system_ram)
