"""Finding, loading and isolating plugins."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import attrs
import pluggy

from swarmkernel import hookspecs
from swarmkernel.errors import StartupError

log = logging.getLogger(__name__)

#: The version is in the group's name: a plugin for another plugin API is not even imported.
GROUP = "swarmkernel.v1"


@attrs.define(eq=False)
class Plugin:
    """An installed plugin, working or not."""

    name: str
    origin: str
    module: Any = None
    error: BaseException | None = None
    entry_point: EntryPoint | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.origin})"


@attrs.define
class Plugins:
    """
    Every plugin there is.

    A plugin that fails is set aside with its error; the others go on. The exceptions are those in *required*, and all
    of them if *strict* is set. Those in *disabled*, and those not in *enabled* unless that is empty, are not even
    imported: they are in *left_out*.
    """

    required: Collection[str] = ()
    disabled: Collection[str] = ()
    strict: bool = False
    enabled: Collection[str] = ()
    left_out: list[Plugin] = attrs.field(factory=list, init=False)
    manager: pluggy.PluginManager = attrs.field(init=False)
    _plugins: dict[str, Plugin] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.manager.hook.swarm_addhooks.call_historic(kwargs={"pluginmanager": self.manager})

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._plugins.values())

    def working(self) -> list[Plugin]:
        """The plugins that have not failed, in the order of their requirements."""
        return [p for p in self if p.error is None]

    def failed(self) -> list[Plugin]:
        """The plugins that were set aside."""
        return [p for p in self if p.error is not None]

    def discover(self) -> None:
        """Import and register every installed plugin that is not kept out."""
        for ep in _in_dependency_order(entry_points(group=GROUP)):
            origin = f"{ep.dist.name} {ep.dist.version}" if ep.dist else ep.value
            plugin = Plugin(ep.name, origin, entry_point=ep)
            if ep.name in self.disabled or (self.enabled and ep.name not in self.enabled):
                self.left_out.append(plugin)
            else:
                self._load(plugin, ep)
        self.check()

    def _load(self, plugin: Plugin, ep: EntryPoint) -> None:
        try:
            plugin.module = ep.load()
        except (Exception, SystemExit) as exc:  # noqa: BLE001  # whatever a plugin does, it costs that plugin only
            self._own(plugin)
            self.fail(plugin, exc)
        else:
            self.add(plugin)

    def _own(self, plugin: Plugin) -> None:
        if plugin.name in self._plugins:
            raise StartupError(f"{plugin} and {self._plugins[plugin.name]} share a name")
        self._plugins[plugin.name] = plugin

    def add(self, plugin: Plugin) -> None:
        """Register an imported plugin."""
        self._own(plugin)
        try:
            self.manager.register(plugin.module, plugin.name)
        except Exception as exc:  # noqa: BLE001
            # With hooks added late, the culprit need not be *plugin*.
            culprit = getattr(exc, "plugin", plugin.module)
            self.fail(next((p for p in self if p.module is culprit), plugin), exc)

    def check(self) -> None:
        """Set aside plugins that implement hooks which nobody specifies, then see that the required ones work."""
        while True:
            try:
                self.manager.check_pending()
            except pluggy.PluginValidationError as exc:
                self.fail(next(p for p in self if p.module is exc.plugin), exc)
            else:
                break
        missing = set(self.required) - {p.name for p in self.working()}
        if missing:
            raise StartupError(f"required plugins missing: {', '.join(sorted(missing))}")

    def fail(self, plugin: Plugin, error: BaseException) -> None:
        """Set *plugin* aside with its *error*; a required one stops the server."""
        plugin.error = error
        if self.manager.has_plugin(plugin.name):
            self.manager.unregister(name=plugin.name)
        if self.strict or plugin.name in self.required:
            raise StartupError(f"{plugin} failed: {error!r}") from error
        log.error("plugin %s is set aside: %r", plugin, error, exc_info=error)

    def implementations(self, hook: str) -> list[tuple[Plugin, Callable[..., Any]]]:
        """Each working plugin's implementation of *hook*, taking the hook's arguments by keyword."""
        caller = getattr(self.manager.hook, hook, None)
        impls = caller.get_hookimpls() if caller else []
        by_module = {id(impl.plugin): impl for impl in impls}
        return [
            (p, _taking_only(by_module[id(p.module)])) for p in self.working() if id(p.module) in by_module
        ]

    def call(self, plugin: Plugin, hook: str, **kwargs: object) -> list[Any]:
        """Call one plugin's implementation of *hook*: its result in a list, or an empty list."""
        return [impl(**kwargs) for p, impl in self.implementations(hook) if p is plugin]

    def gather(self, hook: str, **kwargs: object) -> list[Any]:
        """Every working plugin's answer to *hook* that is not None; one that raises is logged and left out."""
        answers = []
        for plugin, impl in self.implementations(hook):
            try:
                answers.append(impl(**kwargs))
            except Exception:
                log.exception("%s failed in %s", plugin, hook)
        return [a for a in answers if a is not None]

    def collect(self, hook: str, *, key: Callable[[Any], Any], **kwargs: object) -> dict[Any, Any]:
        """Gather what working plugins declare through *hook*, one owner per key; two owners stop the server."""
        found: dict[Any, Any] = {}
        owners: dict[Any, Plugin] = {}
        for plugin in self.working():
            try:
                items = [(key(x), x) for xs in self.call(plugin, hook, **kwargs) for x in xs]
            except Exception as exc:  # noqa: BLE001
                self.fail(plugin, exc)
                continue
            for name, item in items:
                if name in found:
                    raise StartupError(f"{plugin} and {owners[name]} both declare {name!r}")
                owners[name], found[name] = plugin, item
        return found


def _taking_only(impl: pluggy.HookImpl) -> Callable[..., Any]:
    def call(**kwargs: object) -> Any:
        return impl.function(*(kwargs[name] for name in impl.argnames))

    return call


def _in_dependency_order(found: Collection[EntryPoint]) -> list[EntryPoint]:
    """Order entry points by what their distributions require, then by name."""
    by_dist: dict[str, list[EntryPoint]] = {}
    needs: dict[str, set[str]] = {}
    for ep in sorted(found, key=lambda ep: ep.name):
        dist = normal(ep.dist.name) if ep.dist else ""
        by_dist.setdefault(dist, []).append(ep)
        needs[dist] = {normal(r) for r in (ep.dist.requires or ())} if ep.dist else set()
    graph = {d: sorted(n & by_dist.keys()) for d, n in sorted(needs.items())}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as exc:
        raise StartupError(f"plugins require one another: {' -> '.join(exc.args[1])}") from exc
    return [ep for dist in order for ep in by_dist[dist]]


def normal(requirement: str) -> str:
    """The name of the distribution in a requirement, as indexes spell it."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name.group() if name else "").lower()
