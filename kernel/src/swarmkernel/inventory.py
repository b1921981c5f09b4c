"""What is known of each installed plugin."""

from __future__ import annotations

import traceback
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import attrs

from swarmkernel.declarations import Bound
from swarmkernel.discovery import Plugin
from swarmkernel.errors import StartupError
from swarmkernel.kernel import Kernel
from swarmkernel.permissions import Permission


@attrs.frozen
class Facts:
    """One plugin in short. *state* is ok, failed or disabled."""

    name: str
    origin: str
    distribution: str | None
    version: str | None
    state: str
    hooks: list[str]
    routes: int
    permissions: list[str]
    error: str | None


@attrs.frozen
class Details(Facts):
    """One plugin at length; *traceback* tells where a failed one did."""

    summary: str | None
    license: str | None
    links: list[str]
    api: str | None
    entry_point: str | None
    route_names: list[str]
    requirements: list[str]
    settings: dict[str, object]
    traceback: str | None


def facts(kernel: Kernel, *, everything: bool = False) -> list[Facts]:
    """Every plugin, with *everything* also those that are kept out."""
    shown = installed(kernel) if everything else list(kernel.plugins)
    return [Facts(**_facts(kernel, plugin)) for plugin in shown]


def installed(kernel: Kernel) -> list[Plugin]:
    """Every plugin, also those that are kept out."""
    return [*kernel.plugins, *kernel.plugins.left_out]


def details(kernel: Kernel, name: str) -> Details:
    """The plugin of that *name*, or StartupError."""
    plugin = find(kernel, name)
    return Details(
        **_facts(kernel, plugin),
        **_about(plugin.entry_point),
        route_names=sorted(bound.route.name for bound in routes(kernel, plugin)),
        entry_point=plugin.entry_point.value if plugin.entry_point else None,
        requirements=list(plugin.package.requires) if plugin.package else [],
        settings={
            key: default
            for kind in kernel.declared(plugin).settings
            for key, default in defaults(kind).items()
        },
        traceback="".join(traceback.format_exception(plugin.error)) if plugin.error else None,
    )


def _about(entry_point: EntryPoint | None) -> dict[str, Any]:
    """What the authors of a distribution say of it."""
    said = entry_point.dist.metadata.json if entry_point and entry_point.dist else {}
    return {
        "summary": said.get("summary"),
        "license": said.get("license_expression") or said.get("license"),
        "links": said.get("project_url", []),
        "api": entry_point.group if entry_point else None,
    }


def find(kernel: Kernel, name: str) -> Plugin:
    """The installed plugin of that *name*, or of a distribution of that name, or StartupError."""
    found = [plugin for plugin in installed(kernel) if plugin.is_among([name])]
    for plugin in sorted(found, key=lambda plugin: plugin.name != name):
        return plugin
    raise StartupError(f"no installed plugin has the name {name!r}; see `swarmkernel plugins list --all`")


def hooks(kernel: Kernel, plugin: Plugin) -> list[str]:
    """The hooks that a working plugin implements, sorted."""
    callers = kernel.plugins.manager.get_hookcallers(plugin.module) or () if plugin.module else ()
    return sorted(caller.name for caller in callers)


def routes(kernel: Kernel, plugin: Plugin) -> list[Bound]:
    """The routes that a plugin declares."""
    return [bound for bound in kernel.routes if bound.plugin is plugin]


def permissions(kernel: Kernel, plugin: Plugin) -> list[Permission]:
    """The permissions that a plugin names, by id."""
    found = {p.id: p for p in kernel.declared(plugin).permissions}
    return [found[key] for key in sorted(found)]


def defaults(kind: type) -> dict[str, object]:
    """Key -> default of a settings class."""
    values = attrs.asdict(kind())
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def _facts(kernel: Kernel, plugin: Plugin) -> dict[str, Any]:
    left_out = plugin in kernel.plugins.left_out
    return {
        "name": plugin.name,
        "origin": plugin.origin,
        "distribution": plugin.package.name if plugin.package else None,
        "version": plugin.package.version if plugin.package else None,
        "state": "disabled" if left_out else "failed" if plugin.error else "ok",
        "hooks": hooks(kernel, plugin),
        "routes": len(routes(kernel, plugin)),
        "permissions": [p.id for p in permissions(kernel, plugin)],
        "error": repr(plugin.error) if plugin.error else None,
    }
