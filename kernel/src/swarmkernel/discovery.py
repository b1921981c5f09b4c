"""Which plugins are installed, and in what order they load."""

from __future__ import annotations

import re
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any

import attrs

from swarmkernel.errors import PluginError, StartupError

#: The version is in the group's name: a plugin for another plugin API is not even imported.
GROUP = "swarmkernel.v1"
#: Settings tables of the server, which no plugin can have.
RESERVED = frozenset({"server", "plugins"})
_GROUPS = re.compile(r"swarmkernel\.v\d+")


@attrs.frozen
class Package:
    """What the metadata of a plugin's distribution say."""

    name: str
    version: str
    requires: tuple[str, ...] = ()


@attrs.define(eq=False)
class Plugin:
    """An installed plugin, working or not."""

    name: str
    origin: str
    module: Any = None
    error: BaseException | None = None
    entry_point: EntryPoint | None = None
    package: Package | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.origin})"

    @property
    def names(self) -> set[str]:
        """What settings may call it: its own name and its distribution's, canonical."""
        return {canonical(self.name)} | ({canonical(self.package.name)} if self.package else set())

    def is_among(self, names: Iterable[str]) -> bool:
        """Whether one of *names* means this plugin."""
        return not self.names.isdisjoint(map(canonical, names))


def canonical(name: str) -> str:
    """A name as indexes spell it: lower case, with single dashes."""
    return re.sub(r"[-_.]+", "-", name).lower()


def normal(requirement: str) -> str:
    """The canonical name of the distribution in a requirement."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return canonical(name.group()) if name else ""


def installed() -> list[Plugin]:
    """Every installed plugin, by name. A distribution that cannot be read counts as one plugin, with an error."""
    found: dict[str, list[Plugin]] = {}
    for dist in filter(_has_plugins, distributions()):
        try:
            package, plugins = _read(dist)
        except Exception as exc:  # noqa: BLE001  # whatever is wrong with one, the others load
            package, plugins = _broken(dist, exc)
        # As with imports, the first on the path is the one that counts.
        found.setdefault(canonical(package.name), plugins)
    return sorted((plugin for plugins in found.values() for plugin in plugins), key=lambda p: p.name)


def _has_plugins(dist: Distribution) -> bool:
    try:
        text = dist.read_text("entry_points.txt") or ""
    except UnicodeDecodeError as exc:
        text = exc.object.decode(errors="replace")
    return any(_GROUPS.fullmatch(line.strip(" []")) for line in text.splitlines())


def _read(dist: Distribution) -> tuple[Package, list[Plugin]]:
    if "Name" not in dist.metadata:
        raise LookupError("it has no name")
    package = Package(dist.name, dist.version, tuple(dist.requires or ()))
    origin = f"{package.name} {package.version}"
    # Written for several plugin APIs, it counts by the entry point for this one.
    by_name = {ep.name: ep for ep in dist.entry_points if _GROUPS.fullmatch(ep.group)}
    by_name |= {ep.name: ep for ep in dist.entry_points.select(group=GROUP)}
    return package, [
        Plugin(ep.name, origin, error=_refusal(ep), entry_point=ep, package=package)
        for ep in by_name.values()
    ]


def _refusal(ep: EntryPoint) -> PluginError | None:
    if ep.group != GROUP:
        return PluginError(f"it is written for the plugin API {ep.group}, and this server has {GROUP}")
    if ep.name in RESERVED:
        return PluginError(
            f"it cannot have the name of the settings table [{ep.name}], which is the server's"
        )
    return None


def _broken(dist: Distribution, reason: Exception) -> tuple[Package, list[Plugin]]:
    """What stands for a distribution that is half installed or half removed, under the name of its folder."""
    folder = Path(str(getattr(dist, "_path", dist.locate_file(""))))
    error = PluginError(
        f"the metadata of a distribution cannot be read, so reinstall or remove it: {reason!r}"
    )
    return Package(folder.name, ""), [Plugin(folder.name, str(folder.parent), error=error)]


def in_dependency_order(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Order plugins by what their distributions require, then by name."""
    by_package: dict[str, list[Plugin]] = {}
    needs: dict[str, set[str]] = {}
    for plugin in plugins:
        name = canonical(plugin.package.name) if plugin.package else ""
        by_package.setdefault(name, []).append(plugin)
        # One that requires an extra of itself names itself.
        needs[name] = {normal(r) for r in plugin.package.requires} - {name} if plugin.package else set()
    graph = {name: sorted(n & by_package.keys()) for name, n in sorted(needs.items())}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as exc:
        raise StartupError(f"plugins require one another: {' -> '.join(exc.args[1])}") from exc
    return [plugin for name in order for plugin in by_package[name]]
