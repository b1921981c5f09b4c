"""What this package adds: backends that are other servers."""

from __future__ import annotations

from collections.abc import Iterable

from swarmkernel import Accounts, Services, hookimpl
from swarmkernel_backend_api import BackendType
from swarmkernel_backends_remote.addresses import Rules
from swarmkernel_backends_remote.comfy_backend import comfy_type
from swarmkernel_backends_remote.settings import RemoteSettings
from swarmkernel_backends_remote.swarm_backend import swarm_type


@hookimpl
def swarm_settings() -> type:
    """Which servers may be backends."""
    return RemoteSettings


@hookimpl
def backend_types(services: Services) -> Iterable[BackendType]:
    """The types `swarmswarmbackend` and `comfyui_api`."""
    rules = Rules(services.get(RemoteSettings), lambda: services.find(Accounts) is not None)  # type: ignore[type-abstract]
    return swarm_type(rules), comfy_type(rules)
