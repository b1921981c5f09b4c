"""Another server of this API as a backend: it makes nothing itself, and has a child for each backend over there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

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
from swarmkernel_backends_remote.addresses import Rules
from swarmkernel_backends_remote.errors import PeerBusyError, PeerError, PeerLostError
from swarmkernel_backends_remote.presence import Presence
from swarmkernel_backends_remote.swarm_children import NAME, Children
from swarmkernel_backends_remote.swarm_inventory import SWARM, read_backends, read_models, read_options
from swarmkernel_backends_remote.swarm_peer import Peer, PeerSession
from swarmkernel_backends_remote.swarm_settings import SwarmSettings
from swarmkernel_backends_remote.web import Web
from swarmkernel_models_api import KINDS, Model, ModelList, ModelsRefreshed, RefreshModels

log = logging.getLogger(__name__)

#: How often the other server is asked for its backends, and how often while something there is about to change.
LOOK_SECONDS: Final = 5.0
QUICK_SECONDS: Final = 1.0
MODELS_SECONDS: Final = 60.0
#: So many looks in a row that find nobody end the work that is under way; what runs on a live socket survives one.
MISSES: Final = 2
_LIST_SECONDS: Final = 60.0
_REFRESH_SECONDS: Final = 20.0
_BACKENDS_MIB: Final = 4
_LIST_MIB: Final = 32
_DEPTH: Final = 999


@attrs.define(eq=False)
class SwarmBackend:
    """One other server. Its children live and are called like any backend; this one watches that they are there."""

    settings: SwarmSettings
    rules: Rules
    models: ModelList = attrs.field(factory=lambda: ModelList({}), init=False)
    options: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, init=False)
    presence: Presence = attrs.field(init=False)
    peer: Peer = attrs.field(init=False)
    slot: BackendSlot = attrs.field(init=False)
    _backends: Backends = attrs.field(init=False)
    _session: PeerSession | None = attrs.field(default=None, init=False)
    _children: Children = attrs.field(init=False)
    _listed_at: float | None = attrs.field(default=None, init=False)
    _leads_back: bool = attrs.field(default=False, init=False)
    _is_held: bool = attrs.field(default=False, init=False)
    _quick: bool = attrs.field(default=False, init=False)
    _misses: int = attrs.field(default=0, init=False)
    _refused: frozenset[str] = attrs.field(default=frozenset(), init=False)
    _wake: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _looking: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    _watch: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    def attach(self, slot: BackendSlot, backends: Backends) -> None:
        """Know the own slot, and where children go."""
        self.slot, self._backends = slot, backends
        self._children = Children(self, slot, backends)
        self.presence = Presence(lambda: (slot, *self._children.slots), self.settings.allow_idle)

    async def start(self) -> None:
        """See what is there. A server that is out of reach, refuses or has nothing ready is looked at again and again."""
        if not self.settings.address.strip():
            raise NotConfiguredError("The setting Address is empty.")
        self.peer = Peer(Web.of(self.settings, self.rules))
        self._is_held = True
        await self.peer.hold()
        try:
            self._quick = await self._look()
        except BackendError as error:
            self._lose(error)
        self._watch = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Take the children away, each when its work is done, unless the server stops and with it they do."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if not self._backends.closing:
            await self._children.drop_all()
        if self._is_held:
            self._is_held = False
            await self.peer.let_go()

    async def refresh_models(self, _request: RefreshModels) -> ModelsRefreshed:
        """Have the other server look for new models, and list them. One whose work comes back here is only listed."""
        if self._session is not None and not self._leads_back:
            try:
                await self.peer.call(self._session, "TriggerRefresh", seconds=_REFRESH_SECONDS)
            except BackendError as error:
                log.info("%s: a refresh was not passed on: %s", self.slot.label, error.text)
        self._listed_at = None
        await self._look()
        return ModelsRefreshed()

    def doubt(self, error: PeerLostError) -> None:
        """Some work found the other server lost: nothing more goes there until a look says otherwise, which is now."""
        self.presence.lose(error)
        self._session = None
        self._wake.set()

    async def _keep_looking(self) -> None:
        while True:
            await self._pause()
            try:
                self._quick, self._misses = await self._look(), 0
            except PeerBusyError as error:
                self._lose(error)
            except PeerLostError as error:
                self._miss(error)
            except BackendError as error:
                self._lose(error)
            except Exception as error:
                log.exception("%s: looking at the other server failed", self.slot.label)
                self._lose(BackendError(f"Something went wrong here ({type(error).__name__})."))

    async def _pause(self) -> None:
        """Wait until it is time for a look, or one is asked for; a server that rests is left alone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(QUICK_SECONDS if self._quick else LOOK_SECONDS):
                await self._wake.wait()
        self._wake.clear()
        await asyncio.sleep(self.presence.rest)

    def _lose(self, error: BackendError) -> None:
        self.presence.lose(error)
        self._quick = self.presence.is_expected

    def _miss(self, error: PeerLostError) -> None:
        """A look found nobody."""
        self._lose(error)
        self._session = None
        self._misses += 1
        if self._misses >= MISSES:
            self._children.abort(PeerLostError(error.text))

    async def _look(self) -> bool:
        """Bring the children in line with what is there; whether something there is still on its way."""
        async with self._looking:
            session = await self._own_session()
            busy = {slot for slot in self._children.slots if slot.usages}
            answer = await self.peer.call(
                session, "ListBackends", most_mib=_BACKENDS_MIB, nonreal=True, full_data=True
            )
            found = await asyncio.to_thread(
                read_backends,
                answer,
                SERVER_ID,
                self.peer.server_id,
                forwarding=self.settings.allow_forwarding,
            )
            now = time.monotonic()
            if self._listed_at is None or now - self._listed_at > MODELS_SECONDS or self.presence.is_lost:
                await self._list_models(session)
            self._leads_back = found.leads_back
            if self.presence.rest:
                return False
            await self._children.follow(found.backends, busy)
            is_coming = any(backend.coming for backend in found.backends)
            self.presence.find(Status.LOADING if is_coming and not self._children.slots else None)
            if found.is_renamed:
                self._session = None
            return is_coming or found.is_renamed

    async def _own_session(self) -> PeerSession:
        """The session for looks. After a loss a new one tells which server it is: sessions outlive restarts, ids do not."""
        if self._session is None:
            self._session = await self.peer.open_session()
        return self._session

    async def _list_models(self, session: PeerSession) -> None:
        found = {kind: await self._models(session, kind) for kind in KINDS}
        self.options = await self._options(session)
        self._listed_at = time.monotonic()
        if found != self.models.by_kind:
            self.models = ModelList(found)

    async def _options(self, session: PeerSession) -> dict[str, tuple[str, ...]]:
        """What may be chosen there for some parameters; nothing if the other server does not tell."""
        try:
            answer = await self.peer.call(session, "ListT2IParams", seconds=_LIST_SECONDS, most_mib=_LIST_MIB)
        except PeerError as error:
            log.info("%s: its parameters are not known: %s", self.slot.label, error.text)
            return {}
        return await asyncio.to_thread(read_options, answer)

    async def _models(self, session: PeerSession, kind: str) -> dict[str, Model]:
        """The models of a kind: none if the other server does not tell."""
        try:
            answer = await self.peer.call(
                session,
                "ListModels",
                seconds=_LIST_SECONDS,
                most_mib=_LIST_MIB,
                path="",
                depth=_DEPTH,
                subtype=kind,
                allowRemote=self.settings.allow_forwarding,
                dataImages=False,
            )
        except PeerError as error:
            if kind not in self._refused:
                log.warning("%s: no models of kind %s: %s", self.slot.label, kind, error.text)
            self._refused |= {kind}
            return {}
        self._refused -= {kind}
        return await asyncio.to_thread(read_models, kind, answer)


def swarm_type(rules: Rules) -> BackendType:
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
