"""Backends in the server's own process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, ClassVar

import attrs
import pytest

from swarmkernel_backend_api import (
    BackendError,
    Backends,
    BackendSlot,
    BackendType,
    NoSettings,
    Status,
    WorkerLostError,
)
from swarmkernel_backend_api.testing import SYNTHETIC, WORK, BackendConformance, Task, Tick, fleet, until


@attrs.define
class Here:
    settings: NoSettings
    slot: BackendSlot | None = None
    ended: list[str] = attrs.field(factory=list)
    features: tuple[str, ...] = ("here",)

    def attach(self, slot: BackendSlot, backends: Backends) -> None:
        self.slot, self.backends = slot, backends

    backends: Backends | None = None

    async def start(self) -> None:
        assert self.slot is not None
        self.slot.set_idle(True)

    async def stop(self) -> None:
        await asyncio.sleep(60)

    async def work(self, task: Task) -> AsyncIterator[Any]:
        if task.verb == "raise":
            raise ValueError("no")
        try:
            for step in range(task.steps):
                yield Tick(step)
                await asyncio.sleep(task.seconds)
        finally:
            self.ended.append("work")


HERE = BackendType("here", "Here", make=Here, settings=NoSettings, in_process=True)
LOCAL = attrs.evolve(SYNTHETIC, id="local", in_process=True)


async def started(backends: Backends) -> tuple[BackendSlot, Here]:
    slot = await backends.add("here")
    await until(backends, lambda: slot.status is Status.IDLE)
    backend = slot.host._backend
    backend.slot.set_idle(False)
    return slot, backend


async def test_it_may_go_idle_and_come_back() -> None:
    """A backend in the server's process gets its slot, and may show idle and running as it pleases."""
    async with fleet([HERE], stop_seconds=0.1) as backends:
        slot, backend = await started(backends)
        assert (Status.RUNNING, True, backends) == (slot.status, slot.usable, backend.backends)
        slot.set_idle(True)
        assert (Status.IDLE, False) == (slot.status, slot.usable)
        await backends.toggle(slot.id, enabled=False)
        slot.set_idle(False)
        assert Status.DISABLED is slot.status


async def test_it_may_be_away() -> None:
    """A backend may show why it is away, and that work may wait for it; running it stays, and comes back."""
    async with fleet([HERE], stop_seconds=0.1) as backends:
        slot, _ = await started(backends)
        slot.set_away(Status.ERRORED, "out of reach", soon=True)
        assert (Status.ERRORED, "out of reach", True, False) == (
            slot.status,
            slot.reason,
            slot.restarting,
            slot.usable,
        )
        slot.set_away(None)
        assert (Status.RUNNING, "", False, True) == (slot.status, slot.reason, slot.restarting, slot.usable)


async def test_it_is_called_like_any_other() -> None:
    """Calls stream, fail readably and are interrupted by closing, without a process."""
    async with fleet([HERE], stop_seconds=0.1) as backends:
        slot, backend = await started(backends)
        async with aclosing(slot.invoke(WORK, Task(steps=5))) as replies:
            assert Tick(0) == await anext(replies)
        assert ["work"] == backend.ended
        with pytest.raises(BackendError, match="ValueError: no") as caught:
            await slot.ask(WORK, Task("raise"))
        assert "backend_failed" == caught.value.error_id
        host = slot.host
        await backends.toggle(slot.id, enabled=False)
        with pytest.raises(WorkerLostError):
            await anext(host.invoke(WORK, Task()))


async def test_a_stop_that_hangs_is_left_behind() -> None:
    """A backend whose stop hangs does not hold up the server."""
    async with asyncio.timeout(5), fleet([HERE], stop_seconds=0.1) as backends:
        slot, _ = await started(backends)
        assert await backends.delete(slot.id)


class TestSynthetic(BackendConformance):
    """The synthetic backend passes the suite that every backend must pass."""

    kind = SYNTHETIC
    settings: ClassVar = {"ApiKey": "k", "slots": 2}
    abilities: ClassVar = {"work", "free_memory"}


class TestLocal(BackendConformance):
    """The suite holds for a backend in the server's own process too."""

    kind = LOCAL
    abilities: ClassVar = {"work"}
