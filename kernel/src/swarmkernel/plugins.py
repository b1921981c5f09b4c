"""Finding, loading and isolating plugins."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import pluggy

from swarmkernel import hookspecs
from swarmkernel.discovery import Plugin, canonical, in_dependency_order, installed
from swarmkernel.errors import PluginError, StartupError

log = logging.getLogger(__name__)


@contextmanager
def contained() -> Iterator[None]:
    """Code of a plugin: what it raises to end the process (SystemExit, a panic of native code) is a PluginError. Ctrl-C is not."""
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
        raise
    except BaseException as exc:
        raise PluginError(repr(exc)) from exc


@asynccontextmanager
async def logged(plugin: Plugin, life: Any) -> AsyncIterator[None]:
    """Enter *life*; a failure while leaving it is logged, so that the others are still left in order."""
    await life.__aenter__()
    try:
        yield
    finally:
        try:
            with contained():
                await life.__aexit__(None, None, None)
        except Exception:
            log.exception("%s failed while stopping", plugin)


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
        found = installed()
        self.left_out = [p for p in found if self._keeps_out(p)]
        for plugin in in_dependency_order([p for p in found if p not in self.left_out]):
            self._load(plugin)
        self.check()

    def _keeps_out(self, plugin: Plugin) -> bool:
        return plugin.is_among(self.disabled) or (bool(self.enabled) and not plugin.is_among(self.enabled))

    def unknown(self) -> list[str]:
        """What is wrong with the lists: names that no installed plugin has."""
        known = {name for plugin in (*self, *self.left_out) for name in plugin.names}
        return [
            f"{key}: {name}: no installed plugin has this name"
            for key, names in (("enabled", self.enabled), ("disabled", self.disabled))
            for name in sorted({*names})
            if canonical(name) not in known
        ]

    def _load(self, plugin: Plugin) -> None:
        try:
            with contained():
                plugin.module = _imported(plugin)
        except Exception as exc:  # noqa: BLE001  # whatever a plugin does, it costs that plugin only
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
            with contained():
                self.manager.register(plugin.module, plugin.name)
        except pluggy.PluginValidationError as exc:
            # With hooks added late, the culprit need not be *plugin*.
            self.fail(next((p for p in self if p.module is exc.plugin), plugin), exc)
        except Exception as exc:  # noqa: BLE001
            self.fail(plugin, exc)

    def check(self) -> None:
        """Set aside plugins that implement hooks which nobody specifies, then see that the required ones work."""
        while True:
            try:
                self.manager.check_pending()
            except pluggy.PluginValidationError as exc:
                self.fail(next(p for p in self if p.module is exc.plugin), exc)
            else:
                break
        working = {name for plugin in self.working() for name in plugin.names}
        missing = [name for name in sorted({*self.required}) if canonical(name) not in working]
        if missing:
            raise StartupError(f"required plugins missing: {', '.join(map(self._missing, missing))}")

    def _missing(self, name: str) -> str:
        kept_out = any(plugin.is_among([name]) for plugin in self.left_out)
        return f"{name} ({'kept out by the settings' if kept_out else 'not installed'})"

    def fail(self, plugin: Plugin, error: BaseException) -> None:
        """Set *plugin* aside with its *error*; a required one stops the server."""
        plugin.error = error
        if self.manager.has_plugin(plugin.name):
            self.manager.unregister(name=plugin.name)
        if self.strict or plugin.is_among(self.required):
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
        with contained():
            found = impl.function(*(kwargs[name] for name in impl.argnames))
            return list(found) if inspect.isgenerator(found) else found

    return call


def _imported(plugin: Plugin) -> Any:
    if plugin.error is not None:
        raise plugin.error
    ep = plugin.entry_point
    if ep is None or not ep.pattern.match(ep.value):
        raise PluginError(f"its entry point {ep and ep.value!r} is not a module")
    return ep.load()
