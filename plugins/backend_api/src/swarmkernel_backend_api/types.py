"""What a backend is, and how a package declares a type of backend."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Protocol

import attrs

from swarmkernel_backend_api.forms import form

FULLY_QUALIFIED = "{0.__module__}:{0.__qualname__}"


class Backend(Protocol):
    """Something that can do work. Which work, its further methods say; each is a ``Capability`` of the package that calls it.

    A backend may have an attribute ``features`` (strings) that adds to its type's, read once it has started.
    """

    async def start(self) -> None:
        """Get ready. An exception is a failed start, ``NotConfiguredError`` a backend that waits for its settings."""

    async def stop(self) -> None:
        """Let go of everything. Nothing is called afterwards."""


class Status(StrEnum):
    """The state of a backend, as on the wire."""

    DISABLED = "disabled"
    ERRORED = "errored"
    WAITING = "waiting"
    LOADING = "loading"
    IDLE = "idle"
    RUNNING = "running"


class WithPython:
    """Marks a class of settings to which the server has added ``python``; the backend's own is its first base."""

    __slots__ = ()


def one(_settings: Any) -> int:
    """One job at a time."""
    return 1


def address_of(thing: Callable[..., Any] | str) -> str:
    """The ``module:qualname`` by which another process can import a thing."""
    return thing if isinstance(thing, str) else FULLY_QUALIFIED.format(thing)


def _importable(instance: Any, attribute: "attrs.Attribute[Any]", value: Callable[..., Any] | str) -> None:
    module, _, name = address_of(value).partition(":")
    if not instance.in_process and (not module or not name or "<" in name):
        raise ValueError(
            f"backend type {instance.id!r}: {attribute.name} must be a module-level class or 'module:Name'"
        )


def _defaulted(instance: Any, _attribute: "attrs.Attribute[Any]", value: type) -> None:
    taken = {name for field in form(value) for name in (field.name, field.attribute)}
    if "python" in taken and not issubclass(value, WithPython):
        raise ValueError(f"backend type {instance.id!r}: the setting 'python' is the server's own")
    try:
        value()
    except Exception as error:
        raise ValueError(f"backend type {instance.id!r}: every setting needs a default ({error})") from error


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _set(values: Iterable[str]) -> frozenset[str]:
    return frozenset(values)


@attrs.frozen
class BackendType:
    """A type of backend that can be added to a server.

    ``make`` is called with an instance of ``settings`` and gives a ``Backend``; as text (``"package.module:Name"``) it is imported
    only in the worker process. ``in_process`` puts the backend into the server's own event loop: for backends that only talk to others.
    ``slots`` says from the settings how many jobs run at once; ``compat_classes`` names the model classes it can load (empty: any),
    ``formats`` the forms of models, of ``safetensors`` and ``onnx`` (empty: any).
    ``fast`` types start at once, others a few at a time.
    """

    id: str
    name: str
    make: Callable[[Any], Backend] | str = attrs.field(kw_only=True, validator=_importable)
    settings: type = attrs.field(kw_only=True, validator=_defaulted)
    description: str = attrs.field(kw_only=True, default="")
    is_standard: bool = attrs.field(kw_only=True, default=True)
    fast: bool = attrs.field(kw_only=True, default=True)
    in_process: bool = attrs.field(kw_only=True, default=False)
    features: tuple[str, ...] = attrs.field(kw_only=True, default=(), converter=_texts)
    slots: Callable[[Any], int] = attrs.field(kw_only=True, default=one)
    compat_classes: frozenset[str] = attrs.field(kw_only=True, default=frozenset(), converter=_set)
    formats: frozenset[str] = attrs.field(kw_only=True, default=frozenset(), converter=_set)


@attrs.frozen
class NewBackend:
    """A backend that a package wants to exist on a first start. ``settings`` maps wire names to values, the rest are defaults."""

    type_id: str
    title: str = ""
    settings: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class NoSettings:
    """The settings of a type that has none."""
