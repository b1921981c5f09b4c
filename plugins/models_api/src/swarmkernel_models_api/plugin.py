"""What this package adds to the kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pluggy
from starlette.routing import BaseRoute

from swarmkernel import Route, Services, hookimpl
from swarmkernel_models_api import hookspecs, install, views
from swarmkernel_models_api.life import life
from swarmkernel_models_api.routes import ROUTES
from swarmkernel_models_api.settings import ModelsSettings


@hookimpl
def swarm_addhooks(pluginmanager: pluggy.PluginManager) -> None:
    """The hook for folders."""
    pluginmanager.add_hookspecs(hookspecs)


@hookimpl
def swarm_routes() -> Iterable[Route]:
    """The routes about models."""
    return ROUTES


@hookimpl
def swarm_settings() -> type:
    """Where the models are."""
    return ModelsSettings


@hookimpl
def swarm_mounts(services: Services) -> Sequence[BaseRoute]:
    """Their pictures."""
    return views.mounts(services)


@hookimpl
def swarm_lifespan(services: Services) -> AbstractAsyncContextManager[None]:
    """The service `Models`."""
    return life(services)


@hookimpl(optionalhook=True)
def basic_install(
    services: Services, choices: Mapping[str, Any]
) -> Iterable[tuple[str, AsyncIterator[Mapping[str, Any]]]]:
    """Fetch the chosen models."""
    return install.steps(services, choices["models"])
