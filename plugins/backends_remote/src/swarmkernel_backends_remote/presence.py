"""Whether another server can be worked with, as the backends that stand for it show."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from swarmkernel_backend_api import BackendError, BackendSlot, Status
from swarmkernel_backends_remote.errors import PeerLostError

log = logging.getLogger(__name__)

#: So many losses in so many seconds are followed by a rest of so many.
LOSSES: Final = 3
WITHIN_SECONDS: Final = 30.0
REST_SECONDS: Final = 15.0
#: How long work waits for a server that is lost.
GRACE_SECONDS: Final = 30.0


@attrs.define(eq=False)
class Breaker:
    """A circuit breaker. After a rest one more loss is enough for the next, until some work went well."""

    _losses: list[float] = attrs.field(factory=list, init=False)
    _is_weak: bool = attrs.field(default=False, init=False)
    _until: float = attrs.field(default=float("-inf"), init=False)

    def fail(self, now: float) -> None:
        """Count a loss."""
        self._losses = [*(at for at in self._losses if now - at < WITHIN_SECONDS), now]
        if self._is_weak or len(self._losses) >= LOSSES:
            self._is_weak, self._until = True, now + REST_SECONDS

    def succeed(self) -> None:
        """Some work went well."""
        if self._is_weak:
            self._is_weak, self._losses = False, []

    def rest(self, now: float) -> float:
        """For how many seconds the server is left alone."""
        return max(0.0, self._until - now)


@attrs.define(eq=False)
class Presence:
    """One server. `slots` are the backends that stand for it, the one that was added first."""

    slots: Callable[[], Iterable[BackendSlot]]
    allow_idle: bool
    _breaker: Breaker = attrs.field(factory=Breaker, init=False)
    _lost_at: float | None = attrs.field(default=None, init=False)

    @property
    def is_lost(self) -> bool:
        """Whether it is away."""
        return self._lost_at is not None

    @property
    def is_expected(self) -> bool:
        """Whether it is away, and so shortly that work waits for it."""
        return self._lost_at is not None and time.monotonic() - self._lost_at < GRACE_SECONDS

    @property
    def rest(self) -> float:
        """For how many seconds it is to be left alone."""
        return self._breaker.rest(time.monotonic())

    def stumble(self) -> bool:
        """Count a connection that broke; whether there were too many of late."""
        self._breaker.fail(time.monotonic())
        return self.rest > 0

    def succeed(self) -> None:
        """Note that work there went well."""
        self._breaker.succeed()

    def lose(self, error: BackendError) -> None:
        """Show it as away: it gets no new work."""
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            self._breaker.fail(self._lost_at)
            log.warning("%s is away: %s", next(iter(self.slots())).label, error.text)
        reason = error.text
        if self.rest:
            reason += (
                f" It was lost {LOSSES} times in short order, and is left alone for {REST_SECONDS:g} seconds."
            )
        is_idle = self.allow_idle and isinstance(error, PeerLostError)
        status, soon = Status.IDLE if is_idle else Status.ERRORED, self.is_expected
        for slot in self.slots():
            if (status, reason, soon) != (slot.away, slot.reason, slot.restarting):
                slot.set_away(status, reason, soon=soon)

    def find(self, status: Status | None = None) -> None:
        """Show it as back, or with a status as nearly so."""
        slot = next(iter(self.slots()))
        if self._lost_at is not None:
            self._lost_at = None
            log.info("%s is back", slot.label)
        if slot.away is not status:
            slot.set_away(status)
