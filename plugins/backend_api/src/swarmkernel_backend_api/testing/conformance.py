"""What every backend type must be able to do."""

import logging
import os
import signal
from collections.abc import Mapping
from typing import Any, ClassVar

from swarmkernel_backend_api.backends import Backends
from swarmkernel_backend_api.capability import FREE_MEMORY, Freed, FreeMemory
from swarmkernel_backend_api.forms import form, masked, to_raw, to_settings
from swarmkernel_backend_api.slot import BackendSlot
from swarmkernel_backend_api.testing.harness import fleet, until
from swarmkernel_backend_api.types import BackendType, Status
from swarmkernel_backend_api.worker_host import WorkerHost


class BackendConformance:
    """Subclass this in a test module, say which type and with which settings it starts, and pytest does the rest::

        class TestSolid(BackendConformance):
            kind = SOLID
            settings = {"colour": "#00ff00"}
            abilities = {"generate"}

    `abilities` are the names of what it can do. Needs pytest-asyncio in automatic mode.
    """

    kind: ClassVar[BackendType]
    settings: ClassVar[Mapping[str, Any]] = {}
    abilities: ClassVar[set[str]] = set()
    start_seconds: ClassVar[float] = 120.0

    async def _running(self, backends: Backends) -> BackendSlot:
        slot = await backends.add(self.kind.id, self.settings)
        await until(backends, lambda: slot.status not in {Status.WAITING, Status.LOADING}, self.start_seconds)
        assert (slot.status, slot.reason) == (Status.RUNNING, "")
        return slot

    async def test_starts_and_stops(self, caplog: Any) -> None:
        """The backend starts with its settings, and is gone once it is deleted, without an error in the log (pytest's *caplog*)."""
        async with fleet([self.kind]) as backends:
            slot = await self._running(backends)
            host = slot.host
            await backends.delete(slot.id)
            assert (list(backends), slot.host) == ([], None)
            assert not isinstance(host, WorkerHost) or _is_gone(host.pid)
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []

    async def test_has_its_abilities(self) -> None:
        """The live backend has the abilities that its package promises."""
        assert self.abilities, "say in `abilities` what the backend can do"
        async with fleet([self.kind]) as backends:
            slot = await self._running(backends)
            assert self.abilities <= slot.abilities, f"it has only {sorted(slot.abilities)}"

    async def test_frees_memory(self) -> None:
        """A backend that can free memory says whether it did."""
        if FREE_MEMORY.name not in self.abilities:
            return
        async with fleet([self.kind]) as backends:
            slot = await self._running(backends)
            assert isinstance(await slot.ask(FREE_MEMORY, FreeMemory()), Freed)

    async def test_settings_make_the_round_trip(self) -> None:
        """Settings become wire values and come back the same; secrets do so through their marker."""
        values = to_settings(self.kind.settings, self.settings)
        assert values == to_settings(self.kind.settings, to_raw(values))
        assert values == to_settings(self.kind.settings, masked(values), values)
        assert {field.name for field in form(self.kind.settings)} == set(masked(values))

    async def test_restarts_when_killed(self) -> None:
        """A worker that is killed comes back by itself, in a new process."""
        async with fleet([self.kind]) as backends:
            slot = await self._running(backends)
            if not isinstance(slot.host, WorkerHost):
                return
            old = slot.host.pid
            assert old is not None
            os.kill(old, signal.SIGKILL)
            await until(backends, lambda: slot.status is not Status.RUNNING, 5)
            await until(backends, lambda: slot.status is Status.RUNNING, self.start_seconds)
            assert isinstance(slot.host, WorkerHost)
            assert old != slot.host.pid


def _is_gone(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return True
    return False
