"""Another server of this API as a backend: it makes nothing itself, and has a child for each backend over there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import attrs

from swarmkernel import SERVER_ID
from swarmkernel_backend_api import (
    BackendError,
    Backends,
    BackendSlot,
    BackendType,
    NotConfiguredError,
    Status,
)
from swarmkernel_backends_remote.errors import PeerLostError
from swarmkernel_backends_remote.settings import RemoteSettings
from swarmkernel_backends_remote.swarm_inventory import SWARM, RemoteBackend, read_backends, read_models
from swarmkernel_backends_remote.swarm_mirror import LoadingMirror, Mirror, MirrorSettings
from swarmkernel_backends_remote.swarm_peer import Peer, PeerSession
from swarmkernel_backends_remote.swarm_settings import SwarmSettings
from swarmkernel_models_api import KINDS, Model, ModelList

log = logging.getLogger(__name__)

NAME: Final = "Swarm-API-Backend"
#: How often the other server is asked for its backends, and how often while something there is about to change.
LOOK_SECONDS: Final = 5.0
QUICK_SECONDS: Final = 1.0
MODELS_SECONDS: Final = 60.0
#: How long work waits for a server that is lost.
GRACE_SECONDS: Final = 30.0
_LIST_SECONDS: Final = 60.0
_DEPTH: Final = 999
#: How long a server that stops waits for interrupts to arrive over there.
_LAST_WORDS_SECONDS: Final = 2.0


@attrs.define(eq=False)
class SwarmBackend:
    """One other server. Its children live and are called like any backend; this one watches that they are there."""

    settings: SwarmSettings
    rules: RemoteSettings
    models: ModelList = attrs.field(factory=lambda: ModelList({}), init=False)
    peer: Peer = attrs.field(init=False)
    slot: BackendSlot = attrs.field(init=False)
    _backends: Backends = attrs.field(init=False)
    _session: PeerSession | None = attrs.field(default=None, init=False)
    _mirrors: dict[Any, tuple[BackendSlot, Mirror]] = attrs.field(factory=dict, init=False)
    _listed_at: float | None = attrs.field(default=None, init=False)
    _lost_at: float | None = attrs.field(default=None, init=False)
    _is_held: bool = attrs.field(default=False, init=False)
    _quick: bool = attrs.field(default=False, init=False)
    _wake: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _watch: asyncio.Task[None] | None = attrs.field(default=None, init=False)
    _tasks: set[asyncio.Task[Any]] = attrs.field(factory=set, init=False)

    def attach(self, slot: BackendSlot, backends: Backends) -> None:
        """Know the own slot, and where children go."""
        self.slot, self._backends = slot, backends

    async def start(self) -> None:
        """Connect and see what is there. A server that is out of reach is waited for; one that refuses is an error."""
        if not self.settings.address.strip():
            raise NotConfiguredError("The setting Address is empty.")
        self.peer = Peer.of(self.settings, self.rules)
        self._is_held = True
        await self.peer.hold()
        try:
            while await self._look() and not self._mirrors:  # noqa: ASYNC110  # it waits for another machine
                await asyncio.sleep(QUICK_SECONDS)
        except PeerLostError as error:
            self._show_away(error)
        self._watch = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Take the children away, each when its work is done, unless the server stops and with it they do."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._backends.closing and self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS_SECONDS)
        elif not self._backends.closing:
            await self._drop_all()
        if self._is_held:
            self._is_held = False
            await self.peer.let_go()

    async def _drop_all(self) -> None:
        """Return when no child is listed any more; the work of each may still go on."""
        slots = [slot for slot, _ in self._mirrors.values()]
        for key in list(self._mirrors):
            self._drop(key)
        while any(self._backends.get(slot.id) is slot for slot in slots):
            await self._backends.changed(1.0)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something that nobody waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def doubt(self, error: PeerLostError) -> None:
        """Some work found the other server lost: nothing more goes there until a look says otherwise, which is now."""
        self._show_away(error)
        self._wake.set()

    async def _keep_looking(self) -> None:
        while True:
            try:
                async with asyncio.timeout(QUICK_SECONDS if self._quick else LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                self._quick = await self._look()
            except BackendError as error:
                self._lose(error)
            except Exception as error:
                log.exception("%s: looking at the other server failed", self.slot.label)
                self._lose(BackendError(f"Something went wrong here ({type(error).__name__})."))

    def _lose(self, error: BackendError) -> None:
        self._show_away(error)
        for _, mirror in self._mirrors.values():
            mirror.abort(PeerLostError(error.text))

    def _show_away(self, error: BackendError) -> None:
        """Show the server as away; for some time work waits for it."""
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            log.warning("%s is away: %s", self.slot.label, error.text)
        self._quick = soon = now - self._lost_at < GRACE_SECONDS
        status = Status.IDLE if self.settings.allow_idle else Status.ERRORED
        for slot in (self.slot, *(slot for slot, _ in self._mirrors.values())):
            if (status, error.text, soon) != (slot.away, slot.reason, slot.restarting):
                slot.set_away(status, error.text, soon=soon)

    async def _look(self) -> bool:
        """Bring the children in line with what is there; whether something there is still on its way."""
        if self._session is None:
            self._session = await self.peer.open_session()
        busy = {slot for slot, _ in self._mirrors.values() if slot.usages}
        answer = await self.peer.call(self._session, "ListBackends", nonreal=True, full_data=True)
        found = read_backends(answer, SERVER_ID, forwarding=self.settings.allow_forwarding)
        if self._listed_at is None or time.monotonic() - self._listed_at > MODELS_SECONDS or self._lost_at:
            await self._list_models(self._session)
        await self._mirror(found, busy)
        if self._lost_at is not None:
            log.info("%s is back", self.slot.label)
        self._lost_at = None
        if self.slot.away is not None:
            self.slot.set_away(None)
        return any(backend.coming for backend in found)

    async def _list_models(self, session: PeerSession) -> None:
        found: dict[str, dict[str, Model]] = {}
        for kind in KINDS:
            answer = await self.peer.call(
                session,
                "ListModels",
                seconds=_LIST_SECONDS,
                path="",
                depth=_DEPTH,
                subtype=kind,
                allowRemote=self.settings.allow_forwarding,
                dataImages=False,
            )
            found[kind] = await asyncio.to_thread(read_models, kind, answer)
        self._listed_at = time.monotonic()
        if found != self.models.by_kind:
            self.models = ModelList(found)

    async def _mirror(self, found: list[RemoteBackend], busy: set[BackendSlot]) -> None:
        keys = {backend.key for backend in found}
        for key, (slot, _) in list(self._mirrors.items()):
            if key not in keys or self._backends.get(slot.id) is not slot:
                self._drop(key)
        for backend in found:
            if backend.key not in self._mirrors and not backend.coming:
                await self._add(backend)
            if backend.key in self._mirrors:
                slot, mirror = self._mirrors[backend.key]
                self._update(slot, mirror, backend, keep_model=slot in busy or slot.usages > 0)

    async def _add(self, backend: RemoteBackend) -> None:
        mirror = (LoadingMirror if backend.loads else Mirror)(self, backend)
        kind = mirror_type(backend, lambda _: mirror)
        slot = await self._backends.add_nonreal(
            kind, MirrorSettings(backend.id, backend.type), title=self._title(backend), parent=self.slot
        )
        slot.max_usages = backend.slots
        self._mirrors[backend.key] = slot, mirror

    def _title(self, backend: RemoteBackend) -> str:
        return f"[Remote from {self.slot.id}: {self.slot.title or NAME}] {backend.title or backend.type}"

    def _update(self, slot: BackendSlot, mirror: Mirror, backend: RemoteBackend, *, keep_model: bool) -> None:
        before = (slot.title, slot.max_usages, slot.models, slot.via, slot.current_model, slot.away)
        mirror.remote = backend
        slot.title, slot.max_usages = self._title(backend), backend.slots
        slot.models, slot.via = self.models, (self.peer.server_id, *backend.via)
        if not keep_model:
            slot.current_model = backend.model
        if slot.host is not None:
            slot.describe(abilities=slot.host.abilities, features=backend.features)
        away = Status.LOADING if backend.coming else None
        if slot.away is not away:
            slot.set_away(away)
        elif before != (slot.title, slot.max_usages, slot.models, slot.via, slot.current_model, slot.away):
            slot.changed()

    def _drop(self, key: object) -> None:
        slot, _ = self._mirrors.pop(key)
        if self._backends.get(slot.id) is slot:
            self.spawn(self._backends.finish(self._backends.delete(slot.id)))


def mirror_type(backend: RemoteBackend, make: Callable[[Any], Mirror]) -> BackendType:
    """The type of a child: called as the control's is, and with the features that the backend there has."""
    return BackendType(
        SWARM, NAME, make=make, settings=MirrorSettings, in_process=True, slots=lambda _: backend.slots
    )


def swarm_type(rules: RemoteSettings) -> BackendType:
    """The type `swarmswarmbackend`, under an operator's rules."""

    def make(settings: SwarmSettings) -> SwarmBackend:
        return SwarmBackend(settings, rules)

    return BackendType(
        SWARM,
        NAME,
        make=make,
        settings=SwarmSettings,
        description="Another server of this API: its backends work for this one.",
        in_process=True,
    )
