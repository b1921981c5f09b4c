"""All backends of this server: the service that other packages use, and what an administrator can do."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from swarmkernel_backend_api.capability import FREE_MEMORY, FreeMemory
from swarmkernel_backend_api.errors import BackendError, UnknownBackendError
from swarmkernel_backend_api.forms import to_raw, to_settings
from swarmkernel_backend_api.hosts import Host, LocalHost
from swarmkernel_backend_api.interpreters import chosen, withdrawn
from swarmkernel_backend_api.records import Records, StoredBackend, missing_type
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.slot import BackendSlot
from swarmkernel_backend_api.supervisor import Supervisor
from swarmkernel_backend_api.types import BackendType, Status
from swarmkernel_backend_api.worker_host import WorkerHost

log = logging.getLogger(__name__)
T = TypeVar("T")


@attrs.define(eq=False)
class Backends:
    """The backends of this server, iterated by id; temporary ones (negative ids) count down first."""

    types: Mapping[str, BackendType]
    limits: BackendApiSettings
    records: Records
    closing: bool = attrs.field(default=False, init=False)
    _slots: dict[int, BackendSlot] = attrs.field(factory=dict, init=False)
    _supervisors: dict[BackendSlot, Supervisor] = attrs.field(factory=dict, init=False)
    _next_id: int = attrs.field(default=0, init=False)
    _next_nonreal: int = attrs.field(default=-1, init=False)
    _turn: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    _change: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _changes: "set[asyncio.Task[Any]]" = attrs.field(factory=set, init=False)
    _gate: asyncio.Semaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._gate = asyncio.Semaphore(self.limits.parallel_starts)

    def __iter__(self) -> Iterator[BackendSlot]:
        return iter([self._slots[number] for number in sorted(self._slots)])

    def get(self, number: int) -> BackendSlot | None:
        """The backend with this id."""
        return self._slots.get(number)

    def notify(self) -> None:
        """Wake whoever waits in ``changed``."""
        event, self._change = self._change, asyncio.Event()
        event.set()

    async def changed(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # an expired wait is no error here
        """Wait until something changed (a status, a claim, the list); False if the time (seconds) passed first.

        Whoever looks at the backends and then waits, with no ``await`` between, misses nothing.
        """
        event = self._change
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            return False
        return True

    async def finish(self, change: Coroutine[Any, Any, T]) -> T:
        """Carry a change through, even if whoever asked for it goes away meanwhile."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def load(self) -> None:
        """Take the stored backends over and start them."""
        for record in await self.records.load():
            kind = self.types.get(record.type_id)
            settings, raw, problem = await self.records.revive(kind, record)
            slot = self._slot(record.id, kind or missing_type(record.type_id), settings, record.title)
            slot.enabled, slot.raw, slot.problem = record.enabled, raw, problem or withdrawn(slot.type, raw)
            self._next_id = max(self._next_id, record.id + 1)
            await self._supervisors[slot].restart(0)

    async def add(
        self, type_id: str, settings: Mapping[str, Any] | None = None, title: str = ""
    ) -> BackendSlot:
        """Add a real backend, with wire values for settings, and start it."""
        if type_id not in self.types:
            raise UnknownBackendError(f"There is no backend type {type_id!r}.", "unknown_backend_type")
        kind = self.types[type_id]
        values = to_settings(kind.settings, settings or {})
        raw = await self.records.sealed(kind.settings, to_raw(values))
        async with self._turn:
            record = StoredBackend(self._next_id, type_id, title, enabled=True, settings=raw)
            await self.records.save(record)
            self._next_id += 1
            slot = self._slot(record.id, kind, values, title)
            slot.raw = record.settings
        await self._supervisors[slot].restart(0)
        return slot

    async def add_nonreal(
        self, kind: BackendType, settings: Any, *, title: str = "", parent: BackendSlot | None = None
    ) -> BackendSlot:
        """Add a temporary backend: it has a negative id and is not stored. ``settings`` is an instance of the type's class."""
        number, self._next_nonreal = self._next_nonreal, self._next_nonreal - 1
        slot = self._slot(number, kind, settings, title)
        slot.real, slot.parent = False, parent
        await self._supervisors[slot].restart(0)
        return slot

    async def delete(self, number: int) -> bool:
        """Remove a backend at once, then stop it when its work is done; False if there is none."""
        async with self._turn:
            slot = self._slots.get(number)
            if slot is None:
                return False
            if slot.real:
                await self.records.forget(number)
            del self._slots[number]
        self.notify()
        supervisor = self._supervisors[slot]
        await supervisor.shut_down(self.limits.drain_seconds, for_good=True)
        del self._supervisors[slot]
        return True

    async def toggle(self, number: int, *, enabled: bool) -> bool:
        """Switch a backend on or off; False if it was so already."""
        async with self._turn:
            slot = self._known(number)
            if slot.enabled == enabled:
                return False
            slot.enabled = enabled
            try:
                if slot.real:
                    record = StoredBackend(slot.id, slot.type.id, slot.title, slot.enabled, slot.raw)
                    await self.records.save(record)
            except BaseException:
                slot.enabled = not enabled
                raise
        self.notify()
        if enabled:
            await self._supervisors[slot].restart(self.limits.drain_seconds)
        else:
            # One that gave up keeps saying so.
            then = Status.ERRORED if slot.status is Status.ERRORED else Status.DISABLED
            await self._supervisors[slot].shut_down(self.limits.drain_seconds, then=then)
        return True

    async def edit(
        self, number: int, settings: Mapping[str, Any], *, title: str = "", new_id: int | None = None
    ) -> BackendSlot:
        """Change a backend's settings (wire values), title and id; nothing happens unless all of it is valid."""
        async with self._turn:
            if new_id is not None and new_id in self._slots:
                raise BackendError(f"Backend id {new_id} is taken.", "backend_id_taken")
            slot = self._known(number)
            if new_id is not None and not slot.real:
                raise BackendError(
                    f"Backend {number} is temporary and cannot change its id.", "backend_not_real"
                )
            await self._apply(slot, settings, title, slot.id if new_id is None else new_id)
        self.notify()
        await self._supervisors[slot].restart(self.limits.drain_seconds)
        return slot

    async def _apply(self, slot: BackendSlot, settings: Mapping[str, Any], title: str, number: int) -> None:
        values, raw = slot.settings, slot.raw
        if slot.type.id in self.types or not slot.real:
            values = to_settings(slot.type.settings, settings, slot.settings)
            kept = {name: value for name, value in raw.items() if name != "python"}  # offered, or withdrawn
            raw = kept | await self.records.sealed(slot.type.settings, to_raw(values))
        if slot.real:
            record = StoredBackend(number, slot.type.id, title, slot.enabled, raw)
            await self.records.save(record, old_id=slot.id)
        self._slots.pop(slot.id, None)
        slot.id, slot.title, slot.settings, slot.raw = number, title, values, raw
        slot.modcount += 1
        slot.problem = None if slot.type.id in self.types else slot.problem
        slot.max_usages = _max_usages(slot)
        self._slots[number] = slot
        self._next_id = max(self._next_id, number + 1)

    async def restart(self, slots: list[BackendSlot]) -> int:
        """Restart those that run or gave up, one after another so that not all are away at once; how many."""
        chosen = [slot for slot in slots if slot.status in {Status.RUNNING, Status.ERRORED}]
        for slot in chosen:
            if supervisor := self._supervisors.get(slot):
                await supervisor.restart(self.limits.drain_seconds)
        return len(chosen)

    async def free_memory(self, slots: list[BackendSlot], *, system_ram: bool) -> int:
        """Ask running backends for memory, all at once; how many gave some."""
        return sum(await asyncio.gather(*(self._free_memory(slot, system_ram) for slot in slots)))

    async def _free_memory(self, slot: BackendSlot, system_ram: bool) -> bool:
        if FREE_MEMORY.name not in slot.abilities:
            return False
        with contextlib.suppress(TimeoutError):
            try:
                async with asyncio.timeout(self.limits.drain_seconds):
                    return bool((await slot.ask(FREE_MEMORY, FreeMemory(system_ram))).freed)
            except BackendError as error:
                log.warning("%s freed no memory: %s", slot.label, error.text)
        return False

    async def close(self) -> None:
        """Take no new work, let running work end up to the limit, stop everything. No child process is left."""
        self.closing = True
        for slot in self._slots.values():
            slot.reserved = True
        drain, supervisors = self.limits.drain_seconds, self._supervisors.values()
        await asyncio.gather(*(s.shut_down(drain, for_good=True) for s in supervisors))
        await asyncio.gather(*self._changes, return_exceptions=True)

    def _known(self, number: int) -> BackendSlot:
        slot = self._slots.get(number)
        if slot is None:
            raise UnknownBackendError(f"There is no backend {number}.", "unknown_backend")
        return slot

    def _slot(self, number: int, kind: BackendType, settings: Any, title: str) -> BackendSlot:
        slot = BackendSlot(number, kind, settings, self.notify, title)
        slot.max_usages = _max_usages(slot)
        self._slots[number] = slot
        self._supervisors[slot] = Supervisor(slot, self.limits, self._gate, self._host, closed=self.closing)
        self.notify()
        return slot

    def _host(self, slot: BackendSlot) -> Host:
        if slot.type.in_process:
            return LocalHost(
                slot.type, slot.settings, self.limits, slot.label, lambda b: self._introduce(b, slot)
            )
        python = chosen(slot.settings, self.limits.interpreters)
        return WorkerHost(slot.type, slot.settings, self.limits, slot.label, python)

    def _introduce(self, backend: Any, slot: BackendSlot) -> None:
        """Backends in the server's own process may want to know their slot: to go idle, or to add children."""
        if attach := getattr(backend, "attach", None):
            attach(slot, self)


def _max_usages(slot: BackendSlot) -> int:
    return 1 if slot.settings is None else slot.type.slots(slot.settings)
