"""
The hooks that the kernel calls.

Hooks *declare*: they are synchronous, take few arguments, return values, and run at start-up, one plugin at a time.
What happens later happens in the objects that they returned. A plugin may leave out any argument that it does not
need. The one hook at request time is the vote. Wrappers are not supported.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click
    from starlette.routing import BaseRoute

    from swarmkernel.permissions import Permission
    from swarmkernel.routes import Route
    from swarmkernel.scaffold import Template
    from swarmkernel.services import Services
    from swarmkernel.sessions import Session
    from swarmkernel.store import Store

PROJECT = "swarmkernel"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(historic=True)
def swarm_addhooks(pluginmanager: pluggy.PluginManager) -> None:
    """
    Add hooks of your own, with ``pluginmanager.add_hookspecs(module)``.

    Prefix them with your plugin's name. Called once, on registration; plugins that implement your hooks may be
    registered earlier or later.
    """


@hookspec
def swarm_routes() -> Iterable[Route]:
    """
    Declare API routes, and with them the permissions that they name.

    Two routes of one name stop the server, whoever declares them.
    """
    return ()


@hookspec
def swarm_permissions() -> Iterable[Permission]:
    """Declare permissions that no route names."""
    return ()


@hookspec
def swarm_settings() -> type | None:
    """
    Declare an attrs class for the plugin's table in the settings file.

    Every attribute needs a default. The table has the plugin's name, and ``services.get(TheClass)`` has the values.
    """


@hookspec
def swarm_mounts(services: Services) -> Iterable[BaseRoute]:
    """Add plain Starlette routes outside ``/API``. The kernel checks Host and Origin there, and nothing else."""
    return ()


@hookspec
def swarm_store(services: Services) -> AbstractAsyncContextManager[Store]:
    """
    Offer the store, entered before every other lifespan and left after them.

    One plugin at most; its failure stops the server, since an empty store would look like lost data.
    """
    raise NotImplementedError


@hookspec
def swarm_lifespan(services: Services) -> AbstractAsyncContextManager[None]:
    """
    Wrap the server's life. Offer services before you yield.

    Entered in dependency order, left in reverse.
    """
    raise NotImplementedError


@hookspec
def swarm_vote(services: Services, session: Session, permission: Permission) -> bool | None:
    """
    Allow (True), refuse (False) or abstain (None).

    Called on each request, so do not block. One refusal wins, nobody's approval refuses, an exception refuses.
    """


@hookspec
def swarm_commands() -> Iterable[click.Command]:
    """Add commands under ``swarmkernel``."""
    return ()


@hookspec
def swarm_templates() -> Iterable[Template]:
    """
    Offer packages to start other plugins from, for ``swarmkernel plugins new``.

    Two of one kind stop the command; the kernel has the kind ``routes``.
    """
    return ()
