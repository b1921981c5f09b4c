"""What this package offers while the server runs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain, repeat

import attrs

from swarmkernel import (
    Accounts,
    Limits,
    Permission,
    Permissions,
    ServerSettings,
    Services,
    Session,
    Sessions,
    Store,
    StoreError,
    is_loopback,
)
from swarmkernel_accounts.attempts import Attempts
from swarmkernel_accounts.changes import Changes
from swarmkernel_accounts.directory import Directory
from swarmkernel_accounts.first_owner import FirstOwner
from swarmkernel_accounts.gate import Gate
from swarmkernel_accounts.leftovers import Leftovers
from swarmkernel_accounts.passwords import Passwords
from swarmkernel_accounts.settings import AccountsSettings
from swarmkernel_accounts.tokens import Tokens

log = logging.getLogger(__name__)

#: Seconds before the rounds of cleaning: soon after the start, when not every plugin may be there yet, and then rarely.
PAUSES = (2, 10)
CLEAN_SECONDS = 600
SWITCH = "required"


@attrs.frozen
class Parts:
    """What is kept of accounts, read from the store."""

    changes: Changes
    directory: Directory
    tokens: Tokens
    leftovers: Leftovers


async def open_accounts(services: Services) -> Parts:
    """Read users, roles and tokens, in the server or in a command, and see that the built-in roles are there."""
    store = services.get(Store)  # type: ignore[type-abstract]
    settings = services.get(AccountsSettings)
    is_local = is_loopback(services.get(ServerSettings).host)
    changes = Changes.of(store)
    directory = Directory.of(
        store,
        changes,
        is_open=not settings.required,
        trusts_local=settings.required and settings.trust_localhost and is_local,
    )
    tokens, leftovers = Tokens.of(store, changes, settings), Leftovers.of(store)
    directory.leaving += (tokens.revoke_all, leftovers.leave)
    directory.arriving.append(leftovers.refuse)
    await directory.seed(services.get(Permissions).by_id.values())
    return Parts(changes, directory, tokens, leftovers)


@asynccontextmanager
async def life(services: Services) -> AsyncIterator[None]:
    """Offer users, roles and tokens; and while accounts are required, a gate that nobody passes without."""
    parts = await _offer(services, services.get(AccountsSettings))
    tasks = [asyncio.create_task(parts.changes.watch()), asyncio.create_task(_clean(parts, services))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _offer(services: Services, settings: AccountsSettings) -> Parts:
    parts = await open_accounts(services)
    services.add(Changes, parts.changes)
    services.add(Directory, parts.directory)
    services.add(Tokens, parts.tokens)
    services.add(Passwords, Passwords(settings.hash_threads, settings.hash_queue))
    services.add(Attempts, Attempts.of(settings))
    services.add(FirstOwner, FirstOwner(parts.directory))
    await _switch(services, required=settings.required)
    if settings.required:
        gate = Gate(services, parts.directory, parts.tokens)
        parts.changes.listen(gate.settle)
        services.add(Accounts, gate)  # type: ignore[type-abstract]
        services.add(Limits, gate)  # type: ignore[type-abstract]
        services.get(FirstOwner).announce()
        _warn(services.get(ServerSettings), settings)
    parts.changes.listen(partial(parts.leftovers.clear, services))
    return parts


async def _switch(services: Services, *, required: bool) -> None:
    """End all sessions when accounts were switched on or off: a session tells nothing about the other world's users."""
    flags = services.get(Store).collection("accounts_state", bool)  # type: ignore[type-abstract]
    if (await flags.get(SWITCH) or False) != required:
        await services.get(Sessions).end_where(lambda _: True)
        await flags.put(SWITCH, required)
        if required:
            # Whoever reached the server before could make one.
            owners = ", ".join(services.get(Directory).owners()) or "nobody"
            log.warning("accounts are required from now on; the owners are: %s", owners)


def _warn(server: ServerSettings, settings: AccountsSettings) -> None:
    if is_loopback(server.host):
        return
    if settings.trust_localhost:
        log.warning("trust_localhost has no effect while the server listens on %s", server.host)
    if not server.tls_cert and not server.trusted_proxies:
        log.warning(
            "passwords and tokens cross the network in clear: set tls_cert and tls_key,"
            " or put a proxy that speaks HTTPS in front and name it in trusted_proxies"
        )


async def _clean(parts: Parts, services: Services) -> None:
    """Forget what has ended, and what users left behind who were deleted while no server ran."""
    for pause in chain(PAUSES, repeat(CLEAN_SECONDS)):
        await asyncio.sleep(pause)
        try:
            await parts.tokens.purge()
            await parts.leftovers.clear(services)
        except StoreError as exc:
            log.warning("could not forget old tokens: %s", exc)


def vote(services: Services, session: Session, permission: Permission) -> bool | None:
    """What the user's roles say, while accounts are required."""
    if not services.get(AccountsSettings).required:
        return None
    return services.get(Directory).rights(session.user_id).has(permission.id)
