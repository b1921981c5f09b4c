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
    Adds hooks of your own, for other plugins to implement, with `pluginmanager.add_hookspecs(module)`. Prefix their names with
    your plugin's. Called once; your implementers may load earlier or later.
    """


@hookspec
def swarm_routes() -> Iterable[Route]:
    """
    Declares API routes, and with them the permissions that they name. A handler's signature is the schema: `str`, `int`, `float`,
    `bool`, `list[str]`, optional if there is a default, and `Body` for the whole request. Its docstring is the
    published documentation. An async generator is a WebSocket route. `permission` has no default; a route for everyone says `PUBLIC`.
    Two routes of one name stop the server, whoever declares them.
    """
    return ()


@hookspec
def swarm_permissions() -> Iterable[Permission]:
    """Declares permissions that no route names, for example because a handler asks for them with `call.allowed(...)`."""
    return ()


@hookspec
def swarm_settings() -> type | None:
    """
    Declares an attrs class for the plugin's table in the settings file. Every attribute needs a default. The table has the
    plugin's name, and `services.get(TheClass)` has the values. A value that is wrong, or unknown, stops the server with a message
    that names the file, the table and the key.
    """


@hookspec
def swarm_mounts(services: Services) -> Iterable[BaseRoute]:
    """
    Adds plain Starlette routes outside `/API`. The kernel checks Host and Origin there, and nothing else: sessions and
    permissions are yours to check. Called after the plugin's lifespan has been entered.
    """
    return ()


@hookspec
def swarm_store(services: Services) -> AbstractAsyncContextManager[Store]:
    """
    Offers the store, as an async context manager that is entered before every lifespan and left after them all.
    One plugin at most, and its failure stops the server, since an empty store would look like lost data.
    `swarmkernel.testing.store` has the suite that every store must pass.
    """
    raise NotImplementedError


@hookspec
def swarm_lifespan(services: Services) -> AbstractAsyncContextManager[None]:
    """
    Wraps the server's life in an async context manager. Offer services before you yield; stop your tasks after it.
    Entered in dependency order, left in reverse.
    """
    raise NotImplementedError


@hookspec
def swarm_vote(services: Services, session: Session, permission: Permission) -> bool | None:
    """
    Allows (`True`), refuses (`False`) or abstains (`None`), on every request. One refusal wins, one approval allows, silence
    or an exception refuses. Do not block. Without an accounts plugin, basic_api approves of everything; so a vote usually refuses or abstains.
    """


@hookspec
def swarm_commands() -> Iterable[click.Command]:
    """
    Adds click commands under `swarmkernel`. Decorate one with `settings_options` if it reads settings; options of these names
    say which plugins are looked at for commands, so they cannot mean anything else.
    """
    return ()


@hookspec
def swarm_templates() -> Iterable[Template]:
    """
    Offers packages to start other plugins from, for `swarmkernel plugins new NAME --kind KIND`. Each file of the folder whose name
    ends in `.in` is copied without that ending; in names and texts `example` becomes the new plugin's name, `Example` and `EXAMPLE`
    the same in camel and upper case, and `swarmkernel-example` its distribution. The kernel has the kind `routes`.
    """
    return ()
