"""What this package adds to the kernel."""

from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager

import pluggy
from starlette.routing import BaseRoute

from swarmkernel import (
    Accounts,
    Permission,
    Route,
    Services,
    hookimpl,
)
from swarmkernel_basic_api import hookspecs
from swarmkernel_basic_api.config import BasicSettings
from swarmkernel_basic_api.life import life
from swarmkernel_basic_api.permissions import UNROUTED
from swarmkernel_basic_api.routes import ROUTES
from swarmkernel_basic_api.users import Users
from swarmkernel_basic_api.views import mounts


@hookimpl
def swarm_addhooks(pluginmanager: pluggy.PluginManager) -> None:
    """Add the hooks about status, new sessions and interrupts."""
    pluginmanager.add_hookspecs(hookspecs)


@hookimpl
def swarm_settings() -> type:
    """Declare the table ``[basic_api]``."""
    return BasicSettings


@hookimpl
def swarm_routes() -> Iterable[Route]:
    """Declare the routes about sessions, users, presets and status."""
    return ROUTES


@hookimpl
def swarm_permissions() -> Iterable[Permission]:
    """Declare the permissions that only front ends ask for."""
    return UNROUTED


@hookimpl
def swarm_mounts(services: Services) -> Iterable[BaseRoute]:
    """Serve the pictures of presets."""
    return mounts(services)


@hookimpl
def swarm_vote(services: Services) -> bool | None:
    """Allow everything while there are no accounts; where there are, they decide."""
    return None if services.find(Accounts) else True  # type: ignore[type-abstract]


@hookimpl
def swarm_lifespan(services: Services) -> AbstractAsyncContextManager[None]:
    """Offer what users have chosen."""
    return life(services)


@hookimpl(optionalhook=True)
def accounts_forget(services: Services, user_id: str) -> Awaitable[None]:
    """Delete a deleted user's settings, presets and API keys."""
    return services.get(Users).forget(user_id)
