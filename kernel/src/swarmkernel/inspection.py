"""Whether a plugin keeps the rules that its users rely on."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

import attrs

from swarmkernel import inventory
from swarmkernel.declared import undeclared
from swarmkernel.discovery import Plugin
from swarmkernel.kernel import Kernel
from swarmkernel.plugins import contained

Check: TypeAlias = Callable[[Kernel, Plugin], Iterator[str]]

NAME = re.compile(r"[a-z][a-z0-9_]*")


@attrs.frozen
class Finding:
    """One rule, and what is against it."""

    rule: str
    wrong: list[str]


def findings(kernel: Kernel, plugin: Plugin) -> list[Finding]:
    """*plugin* held against every rule."""
    return [Finding(rule, _wrong(check, kernel, plugin)) for rule, check in RULES.items()]


def _wrong(check: Check, kernel: Kernel, plugin: Plugin) -> list[str]:
    try:
        with contained():
            return list(check(kernel, plugin))
    except Exception as exc:  # noqa: BLE001  # what cannot be checked does not keep the rule
        return [f"cannot be checked: {exc!r}"]


def _works(_: Kernel, plugin: Plugin) -> Iterator[str]:
    if plugin.error is not None:
        yield f"it is set aside: {plugin.error!r}"
    elif plugin.module is None:
        yield "it is kept out by the settings"


def _entry_point(_: Kernel, plugin: Plugin) -> Iterator[str]:
    ep = plugin.entry_point
    if not NAME.fullmatch(plugin.name):
        yield f"the name {plugin.name!r} must be lower-case letters, digits and _: it is a table of the settings"
    if ep is None or ep.dist is None:
        yield "it belongs to no distribution"
    elif not ep.pattern.match(ep.value) or ep.attr:
        yield f"{ep.value} must be a module, not something in it"


def _imports(_: Kernel, plugin: Plugin) -> Iterator[str]:
    ep = plugin.entry_point
    if ep is not None and ep.pattern.match(ep.value):
        yield from undeclared(ep)


def _hooks(kernel: Kernel, plugin: Plugin) -> Iterator[str]:
    hooks = inventory.hooks(kernel, plugin)
    if plugin.error is None and plugin.module is not None and not hooks:
        yield "it implements no hook"
    for hook in hooks:
        try:
            if _declares(kernel, plugin, hook):
                list(kernel.plugins.call(plugin, hook)[0])
        except Exception as exc:  # noqa: BLE001
            yield f"{hook} fails: {exc!r}"


def _declares(kernel: Kernel, plugin: Plugin, hook: str) -> bool:
    """Whether a hook gives values, and needs nothing for it that only a running server has."""
    caller = getattr(kernel.plugins.manager.hook, hook)
    takes = next(impl.argnames for impl in caller.get_hookimpls() if impl.plugin is plugin.module)
    gives = inspect.signature(caller.spec.function).return_annotation if caller.spec else None
    return not takes and "Iterable" in str(gives)


def _handlers(kernel: Kernel, plugin: Plugin) -> Iterator[str]:
    for bound in inventory.routes(kernel, plugin):
        if not inspect.getdoc(bound.route.handler):
            yield f"the handler of {bound.route.name} has no docstring, which clients would read"


def _permissions(kernel: Kernel, plugin: Plugin) -> Iterator[str]:
    for permission in inventory.permissions(kernel, plugin):
        if not (permission.name and permission.group):
            yield f"{permission.id} needs a name and a group, by which operators find it"


RULES: dict[str, Check] = {
    "it loads, and its settings have defaults": _works,
    "its entry point is a module under a plain name": _entry_point,
    "it requires what it imports": _imports,
    "its hooks have answers": _hooks,
    "its handlers say what they do": _handlers,
    "its permissions have names": _permissions,
}
