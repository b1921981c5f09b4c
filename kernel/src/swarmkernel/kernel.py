"""The kernel: what the plugins declared, and the checks between them."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

import attrs
from starlette.routing import BaseRoute

from swarmkernel.audit import Audit
from swarmkernel.declarations import Bound, Declared, Permissions
from swarmkernel.discovery import Plugin
from swarmkernel.errors import (
    KernelError,
    PermissionDeniedError,
    StartupError,
    StoreError,
    UnknownRouteError,
)
from swarmkernel.guard import is_loopback
from swarmkernel.permissions import Permission
from swarmkernel.plugins import Plugins, contained, logged
from swarmkernel.routes import Route
from swarmkernel.services import Services, Stopping
from swarmkernel.sessions import Session, Sessions
from swarmkernel.settings import PluginSettings, ServerSettings, SettingsSource
from swarmkernel.store import MemoryStore, Store
from swarmkernel.users import Accounts
from swarmkernel.vault import FILE_NAME, Vault
from swarmkernel.wire import signature

log = logging.getLogger(__name__)

VERSION = version("swarmkernel")
#: Differs between processes: a server that is chained to itself recognises the loop by it.
SERVER_ID = str(uuid.uuid4())
PURGE_SECONDS = 3600


@attrs.define
class Kernel:
    """Plugins, settings and services, put together; `life` runs them."""

    plugins: Plugins
    settings: SettingsSource
    server: ServerSettings
    services: Services = attrs.field(factory=Services, init=False)
    permissions: Permissions = attrs.field(init=False)
    mounts: list[BaseRoute] = attrs.field(factory=list, init=False)
    stopping: Stopping = attrs.field(factory=Stopping, init=False)
    _routes: dict[str, Bound] = attrs.field(factory=dict, init=False)
    _owners: dict[str, Plugin] = attrs.field(factory=dict, init=False)
    _declared: dict[str, Declared] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.permissions = Permissions(self.plugins, self.services)
        self.services.add(Plugins, self.plugins)
        self.services.add(ServerSettings, self.server)
        self.services.add(Permissions, self.permissions)
        self.services.add(Stopping, self.stopping)
        self.services.add(SettingsSource, self.settings)
        self.services.add(Vault, Vault(self.server.secret_key, self.server.data_dir / FILE_NAME))

    @classmethod
    def boot(cls, settings: SettingsSource) -> Kernel:
        """Find the plugins and take in all that they declare, each plugin wholly or not at all."""
        server = settings.load("server", ServerSettings)
        chosen = settings.load("plugins", PluginSettings)
        required = {*chosen.required, *settings.required()}
        plugins = Plugins(required, chosen.disabled, chosen.strict, chosen.enabled)
        plugins.discover()
        kernel = cls(plugins, settings, server)
        for plugin in plugins.working():
            kernel.take(plugin)
        return kernel

    def take(self, plugin: Plugin) -> None:
        """Take in what one plugin declares; a plugin that cannot say it is set aside."""
        try:
            with contained():
                found = self._ask(plugin)
        except StartupError:
            raise
        except Exception as exc:  # noqa: BLE001
            self.plugins.fail(plugin, exc)
            return
        self._declared[plugin.name] = found
        for bound in found.routes:
            self._own_route(bound)
        for permission in found.permissions:
            self._own_permission(plugin, permission)

    def declared(self, plugin: Plugin) -> Declared:
        """What was taken in from *plugin*: nothing if it did not get so far."""
        return self._declared.get(plugin.name, Declared())

    def _ask(self, plugin: Plugin) -> Declared:
        def declared(hook: str) -> list[Any]:
            return [x for xs in self.plugins.call(plugin, hook) for x in xs]

        routes = [Bound(plugin, r, signature(r.handler)) for r in declared("swarm_routes")]
        permissions = [b.route.permission for b in routes if isinstance(b.route.permission, Permission)]
        permissions += declared("swarm_permissions")
        settings = [kind for kind in self.plugins.call(plugin, "swarm_settings") if kind is not None]
        for kind in settings:
            self.services.add(kind, self.settings.load(plugin.name, kind))
        return Declared(tuple(routes), tuple(permissions), tuple(settings))

    def _own_route(self, bound: Bound) -> None:
        for name in (bound.route.name, *bound.route.aliases):
            other = self._routes.setdefault(name.lower(), bound)
            if other is not bound:
                raise StartupError(f"{bound.plugin} and {other.plugin} both declare the route {name}")

    def _own_permission(self, plugin: Plugin, permission: Permission) -> None:
        known = self.permissions.by_id.setdefault(permission.id, permission)
        owner = self._owners.setdefault(permission.id, plugin)
        if known != permission:
            raise StartupError(f"{plugin} and {owner} differ on the permission {permission.id}")

    @property
    def routes(self) -> list[Bound]:
        """Every route once, by name."""
        unique = {id(b): b for b in self._routes.values()}
        return sorted(unique.values(), key=lambda b: b.route.name.lower())

    def route(self, name: str) -> Route | None:
        """What is declared under *name*, in any letter case, whether its plugin works or not."""
        bound = self._routes.get(name.lower())
        return bound.route if bound else None

    def find(self, name: str) -> Bound:
        """The route of that *name*, in any letter case; UnknownRouteError otherwise."""
        bound = self._routes.get(name.lower())
        if bound is None:
            failed = ", ".join(p.name for p in self.plugins.failed())
            hint = f" These plugins are installed but failed: {failed}." if failed else ""
            raise UnknownRouteError(f"Unknown API route {name[:100]!r}.{hint}")
        if bound.plugin.error is not None:
            raise KernelError(
                f"The plugin {bound.plugin.name} of this route failed; see `swarmkernel plugins`."
            )
        return bound

    def require(self, session: Session, permission: Permission) -> None:
        """Raise PermissionDeniedError unless the votes allow it."""
        if not self.permissions.allowed(session, permission):
            log.info("user %s lacks the permission %s", session.user_id, permission.id)
            raise PermissionDeniedError("You lack permission for this route.")

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """Open the store, enter each plugin's lifespan, take in the mounts; leave all in reverse."""
        async with self.storage(), AsyncExitStack() as stack:
            for plugin in self.plugins.working():
                await self._enter(plugin, stack)
            self.plugins.check()
            self._check_exposure()
            accounts = self.services.find(Accounts)  # type: ignore[type-abstract]
            if accounts is not None:
                self.services.get(Sessions).admits = accounts.admits
            purging = asyncio.create_task(self._purge_sessions())
            try:
                yield
            finally:
                purging.cancel()

    @asynccontextmanager
    async def storage(self) -> AsyncIterator[None]:
        """Open the store, and offer it and what rests on it alone."""
        async with AsyncExitStack() as stack:
            try:
                with contained():
                    store = await self._open_store(stack)
            except (StartupError, StoreError):
                raise
            except Exception as exc:
                raise StartupError(f"the store cannot be opened: {exc!r}") from exc
            self.services.add(Store, store)  # type: ignore[type-abstract]
            self.services.add(Sessions, Sessions.of(store, self.server.sessions_per_user))
            self.services.add(Audit, Audit.of(store, self.server.audit_rows))
            yield

    def _check_exposure(self) -> None:
        """Refuse to serve a network while everybody is the owner, unless told so in as many words."""
        accounts = self.services.find(Accounts)  # type: ignore[type-abstract]
        if accounts is not None or self.server.allow_open_network:
            return
        if not is_loopback(self.server.host):
            raise StartupError(
                f"binding to {self.server.host} without accounts would make everyone who can reach it the owner; "
                "install and require accounts, or say --allow-open-network"
            )
        if self.server.trusted_proxies:
            raise StartupError(
                "trusted_proxies without accounts would make everyone who reaches the proxy the owner; "
                "install and require accounts, or, if the proxy lets in nobody else, say --allow-open-network"
            )

    async def _purge_sessions(self) -> None:
        while True:
            try:
                await self.services.get(Sessions).purge()
            except StoreError:
                log.exception("could not purge old sessions")
            await asyncio.sleep(PURGE_SECONDS)

    async def _open_store(self, stack: AsyncExitStack) -> Store:
        offered = [
            (plugin, found)
            for plugin in self.plugins.working()
            for found in self.plugins.call(plugin, "swarm_store", services=self.services)
        ]
        if len(offered) > 1:
            raise StartupError(f"{offered[0][0]} and {offered[1][0]} both offer a store; disable one")
        if not offered:
            log.warning("no plugin offers a store: nothing will be kept when this server stops")
            return MemoryStore()
        store: Store = await stack.enter_async_context(offered[0][1])
        return store

    async def _enter(self, plugin: Plugin, stack: AsyncExitStack) -> None:
        before = self.services.snapshot()
        try:
            with contained():
                for life in self.plugins.call(plugin, "swarm_lifespan", services=self.services):
                    await stack.enter_async_context(logged(plugin, life))
            for mounts in self.plugins.call(plugin, "swarm_mounts", services=self.services):
                self.mounts += map(_as_mount, mounts)
        except StartupError:
            raise
        except Exception as exc:  # noqa: BLE001
            self.services.restore(before)
            self.plugins.fail(plugin, exc)


def _as_mount(value: object) -> BaseRoute:
    if not isinstance(value, BaseRoute):
        raise TypeError(f"swarm_mounts gave {value!r}, which is no Starlette route")
    return value
