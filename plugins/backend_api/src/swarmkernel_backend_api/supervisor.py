"""Keeping one backend alive: starting it, trying again, restarting it when it died, ending it."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from swarmkernel_backend_api.errors import NotConfiguredError
from swarmkernel_backend_api.hosts import Host
from swarmkernel_backend_api.logs import escaped
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.slot import BackendSlot
from swarmkernel_backend_api.types import Status

log = logging.getLogger(__name__)
_BACKOFF: Final = 4


@attrs.define(eq=False)
class Supervisor:
    """The life of one slot. ``gate`` bounds how many backends of slow types start at once."""

    slot: BackendSlot
    limits: BackendApiSettings
    gate: asyncio.Semaphore
    make_host: Callable[[BackendSlot], Host]
    closed: bool = attrs.field(default=False, kw_only=True)
    _life: "asyncio.Task[None] | None" = attrs.field(default=None, init=False)
    _turn: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    _crashes: "deque[float]" = attrs.field(factory=deque, init=False)

    async def restart(self, drain: float) -> None:
        """Shut down if alive, and initialise anew: counters start from zero, since somebody asked for it."""
        async with self._turn:
            await self._shut_down(drain)
            if not self.closed:
                self._crashes.clear()
                self.slot.set_status(Status.WAITING)
                self._life = asyncio.create_task(self._live())

    async def shut_down(
        self, drain: float, *, for_good: bool = False, then: Status = Status.DISABLED
    ) -> None:
        """Let running work end, for at most ``drain`` seconds, stop the backend and show it as ``then``."""
        self.closed = self.closed or for_good
        async with self._turn:
            await self._shut_down(drain, then)

    async def _shut_down(self, drain: float, then: Status = Status.DISABLED) -> None:
        slot = self.slot
        slot.reserved = True
        try:
            if slot.host is not None:
                await self._until_untouched(drain)
            if self._life is not None:
                self._life.cancel()
                await asyncio.gather(self._life, return_exceptions=True)
            host, slot.host, slot.current_model = slot.host, None, None
            slot.restarting = False
            if host is not None:
                await host.stop()
            slot.set_status(then)
        finally:
            slot.reserved = False

    async def _until_untouched(self, seconds: float) -> None:
        """Polling at 20 ms is exact enough for an administrator, and needs no further signal."""
        deadline = time.monotonic() + seconds
        while self.slot.touched and self.slot.host is not None:
            if time.monotonic() >= deadline:
                log.warning("%s still works after %g s; it is stopped all the same", self.slot.label, seconds)
                return
            await asyncio.sleep(0.02)

    async def _live(self) -> None:
        try:
            await self._run()
        except Exception:
            log.exception("%s: its supervisor failed", self.slot.label)
            self.slot.set_status(Status.ERRORED, "its supervisor failed")

    async def _run(self) -> None:
        slot = self.slot
        if not slot.enabled:
            slot.set_status(Status.DISABLED)
            return
        if slot.problem is not None:
            log.error("%s cannot start: %s", slot.label, slot.problem)
            slot.set_status(Status.ERRORED, slot.problem)
            return
        while (host := await self._start()) is not None:
            loss = await host.lost
            pause = self._pause()
            slot.host, slot.current_model, slot.restarting = None, None, pause is not None
            slot.set_status(Status.ERRORED, loss.text)
            if pause is None:
                log.error("%s It died too often and stays down.", loss.text)
                return
            log.warning("%s It restarts in %g s.", loss.text, pause)
            await asyncio.sleep(pause)

    def _pause(self) -> float | None:
        """How long to wait before the next restart; None if the budget is spent."""
        now = time.monotonic()
        while self._crashes and self._crashes[0] < now - 60 * self.limits.restart_window_minutes:
            self._crashes.popleft()
        self._crashes.append(now)
        before = len(self._crashes) - 1
        return (
            None
            if before >= self.limits.restart_attempts
            else self.limits.restart_pause_seconds * _BACKOFF**before
        )

    async def _start(self) -> Host | None:
        """Start the backend, again if need be; None if it does not."""
        attempts = 0
        while True:
            host = await self._attempt()
            attempts += 1
            if host is not None or self.slot.status is Status.DISABLED:
                return host
            if attempts > self.limits.max_init_attempts:
                self.slot.set_status(Status.ERRORED, self.slot.reason)
                return None
            self.slot.set_status(Status.WAITING, self.slot.reason)
            await asyncio.sleep(self.limits.init_pause_seconds)

    async def _attempt(self) -> Host | None:
        slot = self.slot
        async with contextlib.nullcontext() if slot.type.fast else self.gate:
            slot.away, slot.restarting = None, False
            slot.set_status(Status.LOADING)
            host = self.make_host(slot)
            try:
                async with asyncio.timeout(self.limits.start_seconds):
                    await host.start()
            except BaseException as error:
                await host.stop()
                if not isinstance(error, Exception):
                    raise
                self._failed(error)
                return None
        slot.host = host
        slot.describe(abilities=host.abilities, features=host.features)
        log.info("%s runs", slot.label)
        slot.set_status(slot.away or Status.RUNNING, slot.reason if slot.away else "")
        return host

    def _failed(self, error: Exception) -> None:
        slot = self.slot
        text = (
            f"did not start within {self.limits.start_seconds:g} s"
            if isinstance(error, TimeoutError)
            else str(error)
        )
        if isinstance(error, NotConfiguredError):
            log.info("%s waits for its settings: %s", slot.label, escaped(text))
            slot.set_status(Status.DISABLED, text)
        else:
            log.warning("%s did not start: %s", slot.label, escaped(text))
            slot.reason = text
