"""One backend of this server: what it is, how it is, and how to use it."""

import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import attrs

from swarmkernel_backend_api.capability import Capability
from swarmkernel_backend_api.errors import BackendError, WorkerLostError
from swarmkernel_backend_api.hosts import Host
from swarmkernel_backend_api.logs import escaped
from swarmkernel_backend_api.types import BackendType, Status


@attrs.define(eq=False)
class BackendSlot:
    """A backend: the administrator's wish (type, title, settings, enabled) and the present state.

    ``settings`` is an instance of ``type.settings``; ``raw`` the wire values as they are stored, secrets sealed, with whatever in them this version
    does not know. ``problem`` says why the backend cannot be started at all. ``real`` ones are kept in the store, others are
    temporary, have negative ids and often a ``parent``. ``restarting``: it died, and starts again after a pause; or what it talks to
    is away, and may soon be back. ``usages`` counts claims. ``current_model`` and ``models`` are for whoever loads models: the one
    that is loaded, and the ``ModelList`` that the backend says it has (None: whatever this server has). ``via`` are the ids of the
    servers through which its work goes. ``options`` are, by parameter, the values of dropdowns that it says it takes.
    """

    id: int
    type: BackendType
    settings: Any
    changed: Callable[[], None]
    title: str = ""
    enabled: bool = True
    raw: dict[str, Any] = attrs.field(factory=dict, repr=False)
    real: bool = True
    parent: "Self | None" = None
    problem: str | None = None
    status: Status = Status.WAITING
    reason: str = ""
    max_usages: int = 1
    usages: int = 0
    current_model: str | None = None
    modcount: int = 0
    reserved: bool = False
    models: Any = attrs.field(default=None, repr=False)
    via: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = attrs.Factory(dict)
    away: Status | None = None
    restarting: bool = False
    host: Host | None = attrs.field(default=None, repr=False)
    _abilities: frozenset[str] | None = attrs.field(default=None, init=False)
    _features: tuple[str, ...] = attrs.field(default=(), init=False)
    _calls: int = attrs.field(default=0, init=False)
    _last_used: float | None = attrs.field(default=None, init=False)

    @property
    def label(self) -> str:
        """How texts name this backend."""
        return f"backend {self.id} ({escaped(self.title or self.type.name)})"

    @property
    def abilities(self) -> frozenset[str]:
        """The method names of the backend when it last ran."""
        return self._abilities or frozenset()

    @property
    def can_load_models(self) -> bool:
        """Whether models can be loaded; a backend that never ran is given the benefit of the doubt."""
        return self._abilities is None or "load_model" in self._abilities

    @property
    def features(self) -> list[str]:
        """Feature ids: the type's, then what the live backend adds."""
        return list(dict.fromkeys((*self.type.features, *self._features)))

    @property
    def serving(self) -> bool:
        """Whether the backend runs and is not about to be shut down."""
        alive = self.host is not None and not self.host.lost.done()
        return self.status is Status.RUNNING and alive and not self.reserved

    @property
    def usable(self) -> bool:
        """Whether new work may be given to this backend."""
        return self.serving and self.enabled and self.max_usages > 0

    @property
    def free(self) -> bool:
        """Whether new work may be given to it right now."""
        return self.usable and self.usages < self.max_usages

    @property
    def touched(self) -> bool:
        """Whether somebody uses it."""
        return self.usages > 0 or self._calls > 0

    def set_status(self, status: Status, reason: str = "") -> None:
        """Change the status and tell whoever waits."""
        self.status, self.reason = status, reason
        self.changed()

    def set_idle(self, idle: bool) -> None:
        """Say that a running backend's target is out of reach for the moment, or is back."""
        self.set_away(Status.IDLE if idle else None)

    def set_away(self, status: Status | None, reason: str = "", *, soon: bool = False) -> None:
        """Say how a running backend shows while what it talks to is away, and why; None: it is back.

        The backend keeps running and looks for it. Work waits for one that may be back ``soon``.
        """
        self.away = status
        if self.host is not None:
            self.restarting = soon and status is not None
            self.set_status(status or Status.RUNNING, reason)
        else:
            self.reason = reason

    def describe(self, *, abilities: frozenset[str], features: tuple[str, ...]) -> None:
        """Take over what a live backend says of itself."""
        self._abilities, self._features = abilities, features

    @contextmanager
    def claim(self) -> Iterator[Self]:
        """Occupy one of the ``max_usages`` places while inside."""
        self.usages += 1
        self.stamp()
        try:
            yield self
        finally:
            self.usages -= 1
            self.stamp()
            self.changed()

    def stamp(self) -> None:
        """Note that it is used now, and so is its parent."""
        self._last_used = time.monotonic()
        if self.parent is not None:
            self.parent.stamp()

    @property
    def seconds_since_used(self) -> float | None:
        """Seconds since the last claim or release; None if there was none."""
        return None if self._last_used is None else time.monotonic() - self._last_used

    async def invoke(self, capability: Capability, request: Any) -> AsyncGenerator[Any, None]:
        """Call a streaming ability. Closing the iterator interrupts it.

        Raises ``WorkerLostError`` if the backend's process dies, ``BackendError`` with what the backend says.
        """
        if self.host is None:
            raise WorkerLostError(f"{self.label} is not running.")
        self._calls += 1
        try:
            async with contextlib.aclosing(self.host.invoke(capability, request)) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._calls -= 1
            self.changed()

    async def ask(self, capability: Capability, request: Any) -> Any:
        """Call an ability that gives one reply. Cancelling interrupts it."""
        async with contextlib.aclosing(self.invoke(capability, request)) as replies:
            async for reply in replies:
                return reply
        raise BackendError(f"{self.label} gave no answer to {capability.name}.", "bad_message")


def since(seconds: float | None) -> str:
    """A time of last use in words, in two units: ``5 minutes and 3 seconds ago``."""
    if seconds is None:
        return "Never"
    left = math.floor(seconds)
    if left == 0:
        return "0 seconds from now"
    parts = []
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}{'' if count == 1 else 's'}")
        elif parts:
            break
    return " and ".join(parts[:2]) + " ago"
