"""Abilities of backends, as values: how a package calls a method of a backend that lives in another process."""

from collections.abc import Callable
from typing import Any, Final, get_args

import attrs


@attrs.frozen(eq=False)
class Capability:
    """An ability of backends, owned by the package that calls it.

    ``name`` is the backend's method, called with a ``request``. It gives ``reply`` values: one (a coroutine), or, if it
    ``streams``, any number (an async generator). Request and reply are attrs classes, or unions of them; ``bytes`` travel raw.
    ``adapter(method, request)`` runs in the worker in place of the bare method, to turn what a backend finds natural
    (pixels, objects) into replies. The worker finds the capability by ``at`` (``"package.module:NAME"``), so that module must be light.
    """

    name: str
    request: Any
    reply: Any
    at: str = attrs.field(kw_only=True)
    streams: bool = attrs.field(kw_only=True)
    adapter: Callable[[Callable[[Any], Any], Any], Any] | None = attrs.field(kw_only=True, default=None)

    def call(self, method: Callable[[Any], Any], request: Any) -> Any:
        """Start the backend's method: an async iterator if this streams, else an awaitable."""
        return method(request) if self.adapter is None else self.adapter(method, request)

    def is_reply(self, value: Any) -> bool:
        """Whether a value is one that this capability may give."""
        return isinstance(value, get_args(self.reply) or (self.reply,))


@attrs.frozen
class FreeMemory:
    """Ask for memory back: of the device, and with ``system_ram`` also of the host."""

    system_ram: bool = False


@attrs.frozen
class Freed:
    """Whether memory was freed."""

    freed: bool


FREE_MEMORY: Final = Capability(
    "free_memory", FreeMemory, Freed, at="swarmkernel_backend_api.capability:FREE_MEMORY", streams=False
)
