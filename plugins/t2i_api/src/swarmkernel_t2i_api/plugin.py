"""What this package adds to the kernel."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pluggy
from starlette.routing import BaseRoute

from swarmkernel import Permission, Route, Services, Session, Template, hookimpl
from swarmkernel_t2i_api import hookspecs
from swarmkernel_t2i_api.jobs.jobs import Jobs
from swarmkernel_t2i_api.life import life
from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.outputs.view import view_routes
from swarmkernel_t2i_api.params import PARAMS
from swarmkernel_t2i_api.params.types import Param
from swarmkernel_t2i_api.permissions import UNROUTED, VIEW_OTHERS
from swarmkernel_t2i_api.routes import ROUTES
from swarmkernel_t2i_api.settings import T2ISettings


@hookimpl
def swarm_addhooks(pluginmanager: pluggy.PluginManager) -> None:
    """The hook for parameters."""
    pluginmanager.add_hookspecs(hookspecs)


@hookimpl
def swarm_routes() -> Iterable[Route]:
    """The routes about generating."""
    return ROUTES


@hookimpl
def swarm_permissions() -> Iterable[Permission]:
    """The permissions that parameters, refreshing and other users' outputs ask for."""
    return UNROUTED


@hookimpl
def swarm_settings() -> type:
    """Limits, the queue's habits, and where outputs go."""
    return T2ISettings


@hookimpl
def swarm_mounts(services: Services) -> Sequence[BaseRoute]:
    """The pictures."""
    return view_routes(services, VIEW_OTHERS, services.get(T2ISettings).view_cache)


@hookimpl
def swarm_lifespan(services: Services) -> AbstractAsyncContextManager[None]:
    """Parameters, the queue and its bus, and the output folder."""
    return life(services)


@hookimpl
def swarm_templates() -> Iterable[Template]:
    """A package with a backend type."""
    return (
        Template("backend", "a backend type, a route and their tests", Path(__file__).parent / "template"),
    )


@hookimpl
def t2i_params() -> Iterable[Param]:
    """The parameters that every server has."""
    return PARAMS


@hookimpl(optionalhook=True)
def basic_interrupt(services: Services, session: Session, other_sessions: bool) -> None:
    """Stop the session's generations, or all of its user's."""
    services.get(Jobs).interrupt(None if other_sessions else session.id, session.user_id)


@hookimpl(optionalhook=True)
def accounts_forget(services: Services, user_id: str) -> Awaitable[None]:
    """Put a deleted user's pictures out of reach of whoever gets the name next."""
    return services.get(Outputs).set_aside(user_id)
