"""The backends here that stand for those of another server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from swarmkernel_backend_api import Backends, BackendSlot, BackendType, Status
from swarmkernel_backends_remote.errands import Errands
from swarmkernel_backends_remote.errors import PeerLostError
from swarmkernel_backends_remote.swarm_inventory import SWARM, RemoteBackend
from swarmkernel_backends_remote.swarm_mirror import Control, LoadingMirror, Mirror, MirrorSettings

NAME: Final = "Swarm-API-Backend"


@attrs.define(eq=False)
class Children:
    """The children of a connection to another server, whose slot is `parent`: one for each backend there that is wanted."""

    control: Control
    parent: BackendSlot
    backends: Backends
    _known: dict[Any, tuple[BackendSlot, Mirror]] = attrs.field(factory=dict, init=False)
    _errands: Errands = attrs.field(factory=Errands, init=False)

    @property
    def slots(self) -> list[BackendSlot]:
        """Those that are there."""
        return [slot for slot, _ in self._known.values()]

    def abort(self, error: PeerLostError) -> None:
        """End all their work with an error."""
        for _, mirror in self._known.values():
            mirror.relays.abort(error)

    async def drop_all(self) -> None:
        """Return when no child is listed any more; the work of each may still go on."""
        slots = self.slots
        for key in list(self._known):
            self._drop(key)
        while any(self.backends.get(slot.id) is slot for slot in slots):
            await self.backends.changed(1.0)

    async def follow(self, backends: Iterable[RemoteBackend], busy: set[BackendSlot]) -> None:
        """Bring them in line with what is there. What was `busy` when that was asked for knows its model better."""
        found = [backend for backend in backends if self._is_nearest(backend)]
        keys = {backend.key for backend in found}
        for key, (slot, _) in list(self._known.items()):
            if key not in keys or self.backends.get(slot.id) is not slot:
                self._drop(key)
        for backend in found:
            if backend.key not in self._known and not backend.coming:
                await self._add(backend)
            if backend.key in self._known:
                slot, mirror = self._known[backend.key]
                self._update(slot, mirror, backend, keep_model=slot in busy or slot.usages > 0)

    async def _add(self, backend: RemoteBackend) -> None:
        mirror = (LoadingMirror if backend.loads else Mirror)(self.control, backend)
        slot = await self.backends.add_nonreal(
            mirror_type(backend, lambda _: mirror),
            _settings(backend),
            title=self._title(backend),
            parent=self.parent,
        )
        slot.max_usages = backend.slots
        self._known[backend.key] = slot, mirror

    def _title(self, backend: RemoteBackend) -> str:
        return f"[Remote from {self.parent.id}: {self.parent.title or NAME}] {backend.title or backend.type}"

    def _update(self, slot: BackendSlot, mirror: Mirror, backend: RemoteBackend, *, keep_model: bool) -> None:
        before = _shown(slot)
        mirror.remote, slot.settings = backend, _settings(backend)
        slot.title, slot.max_usages = self._title(backend), backend.slots
        slot.models, slot.options = self.control.models, self.control.options
        slot.via = (self.control.peer.server_id, *backend.via)
        if not keep_model:
            slot.current_model = backend.model
        if slot.host is not None:
            slot.describe(abilities=slot.host.abilities, features=backend.features)
        away = Status.LOADING if backend.coming else None
        if slot.away is not away:
            slot.set_away(away)
        elif before != _shown(slot):
            slot.changed()

    def _drop(self, key: object) -> None:
        slot, _ = self._known.pop(key)
        if self.backends.get(slot.id) is slot:
            self._errands.run(self.backends.finish(self.backends.delete(slot.id)))

    def _is_nearest(self, backend: RemoteBackend) -> bool:
        """Whether no other connection leads to the same backend by a shorter way, or an equal one and was there before."""
        own = (len(backend.via), self.parent.id)
        return not any(
            (len(slot.via) - 1, slot.parent.id) < own
            for slot in self.backends
            if isinstance(slot.settings, MirrorSettings)
            and slot.settings.origin == backend.origin
            and slot.parent not in {None, self.parent}
            and slot.status is Status.RUNNING
        )


def _shown(slot: BackendSlot) -> tuple[object, ...]:
    return slot.title, slot.max_usages, slot.models, slot.options, slot.via, slot.current_model


def _settings(backend: RemoteBackend) -> MirrorSettings:
    return MirrorSettings(backend.id, backend.type, backend.origin)


def mirror_type(backend: RemoteBackend, make: Callable[[Any], Mirror]) -> BackendType:
    """The type of a child: called as the control's is, and with the features that the backend there has."""
    return BackendType(
        SWARM, NAME, make=make, settings=MirrorSettings, in_process=True, slots=lambda _: backend.slots
    )
