"""What this package adds to the kernel."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click
import pluggy

from swarmkernel import Permission, Route, Services, Session, hookimpl
from swarmkernel_accounts import hookspecs
from swarmkernel_accounts.commands import commands
from swarmkernel_accounts.life import life, vote
from swarmkernel_accounts.permissions import PERMISSIONS
from swarmkernel_accounts.routes import ROUTES
from swarmkernel_accounts.settings import AccountsSettings


@hookimpl
def swarm_addhooks(pluginmanager: pluggy.PluginManager) -> None:
    """Add the hook about deleted users."""
    pluginmanager.add_hookspecs(hookspecs)


@hookimpl
def swarm_settings() -> type:
    """Declare the table ``[accounts]``."""
    return AccountsSettings


@hookimpl
def swarm_routes() -> Iterable[Route]:
    """Declare the routes about logging in, passwords and login tokens."""
    return ROUTES


@hookimpl
def swarm_permissions() -> Iterable[Permission]:
    """Declare every permission that roles are made of."""
    return PERMISSIONS


@hookimpl
def swarm_lifespan(services: Services) -> AbstractAsyncContextManager[None]:
    """Offer users, roles and tokens, and guard the server while accounts are required."""
    return life(services)


@hookimpl
def swarm_vote(services: Services, session: Session, permission: Permission) -> bool | None:
    """Allow what the user's roles do, and refuse all else, while accounts are required."""
    return vote(services, session, permission)


@hookimpl
def swarm_commands() -> Iterable[click.Command]:
    """Add the commands ``users`` and ``tokens``."""
    return commands()
