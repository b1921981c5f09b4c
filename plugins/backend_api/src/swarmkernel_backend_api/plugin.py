"""What this package adds to the kernel."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pluggy

from swarmkernel import Route, Services, Session, hookimpl
from swarmkernel_backend_api import hookspecs
from swarmkernel_backend_api.backends import Backends
from swarmkernel_backend_api.claims import Claims
from swarmkernel_backend_api.install import Step, steps
from swarmkernel_backend_api.routes import ROUTES
from swarmkernel_backend_api.service import running
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.status import backend_status, count_running, supported_features


@hookimpl
def swarm_addhooks(pluginmanager: pluggy.PluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


@hookimpl
def swarm_settings() -> type:
    return BackendApiSettings


@hookimpl
def swarm_routes() -> Iterable[Route]:
    return ROUTES


@hookimpl
def swarm_lifespan(services: Services) -> AbstractAsyncContextManager[None]:
    return running(services)


@hookimpl(optionalhook=True)
def basic_status(services: Services, session: Session) -> Mapping[str, object]:
    backends = services.get(Backends)
    return {
        "status": services.get(Claims).counts(session.id),
        "backend_status": backend_status(backends),
        "supported_features": supported_features(backends),
    }


@hookimpl(optionalhook=True)
def basic_install(services: Services, choices: Mapping[str, Any]) -> Iterable[Step]:
    return steps(services, str(choices["backend"]))


@hookimpl(optionalhook=True)
def basic_new_session(services: Services) -> Mapping[str, object]:
    return {"count_running": count_running(services.get(Backends))}
