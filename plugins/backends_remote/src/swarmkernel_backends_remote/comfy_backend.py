"""A ComfyUI server as a backend."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Final

import attrs

from swarmkernel_backend_api import (
    BackendError,
    Backends,
    BackendSlot,
    BackendType,
    Freed,
    FreeMemory,
    NotConfiguredError,
)
from swarmkernel_backends_remote.addresses import Rules
from swarmkernel_backends_remote.comfy_catalogue import Catalogue
from swarmkernel_backends_remote.comfy_events import Events
from swarmkernel_backends_remote.comfy_job import ComfyJob
from swarmkernel_backends_remote.comfy_server import ComfyServer
from swarmkernel_backends_remote.comfy_settings import ComfySettings, places
from swarmkernel_backends_remote.errands import Errands, insist
from swarmkernel_backends_remote.errors import PeerError, PeerLostError
from swarmkernel_backends_remote.messages import messages
from swarmkernel_backends_remote.presence import Presence
from swarmkernel_backends_remote.relay import Relays
from swarmkernel_backends_remote.web import Web
from swarmkernel_models_api import Loaded, LoadModel, ModelsRefreshed, RefreshModels
from swarmkernel_t2i_api import ImageJob, Output, Preview, Progress, RawFrame

log = logging.getLogger(__name__)

COMFY: Final = "comfyui_api"
#: How often the server's lists are read again, how often if it does not do as it is, and how soon a lost connection is
#: tried again: at first, and then.
LISTS_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 5.0
FIRST_SECONDS: Final = 0.2
AGAIN_SECONDS: Final = 2.0
#: The longest that one picture may take over there, with all that is queued before it.
JOB_SECONDS: Final = 4 * 3600.0


@attrs.define(eq=False)
class ComfyBackend:
    """One server. One socket tells of all its jobs; if that breaks and cannot be opened again at once, they are lost."""

    settings: ComfySettings
    rules: Rules
    presence: Presence = attrs.field(init=False)
    slot: BackendSlot = attrs.field(init=False)
    server: ComfyServer | None = attrs.field(default=None, init=False)
    catalogue: Catalogue = attrs.field(factory=lambda: Catalogue({}), init=False)
    events: Events = attrs.field(factory=Events, init=False)
    _relays: Relays = attrs.field(factory=Relays, init=False)
    _errands: Errands = attrs.field(factory=Errands, init=False)
    _hears: bool = attrs.field(default=False, init=False)
    _wake: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _watches: list[asyncio.Task[None]] = attrs.field(factory=list, init=False)

    @property
    def features(self) -> tuple[str, ...]:
        """What the server can do beside making a picture from a text."""
        return self.catalogue.features

    def attach(self, slot: BackendSlot, _backends: Backends) -> None:
        """Know the own slot. Until its lists are read the server has no models."""
        self.slot = slot
        slot.models = self.catalogue.models()
        self.presence = Presence(lambda: (slot,), self.settings.allow_idle)

    async def start(self) -> None:
        """Read what the server has. One that is out of reach or refuses is looked at again and again."""
        if not self.settings.address.strip():
            raise NotConfiguredError("The setting Address is empty.")
        self.server = server = ComfyServer(Web.of(self.settings, self.rules))
        await server.web.open()
        try:
            await self._look(server)
        except BackendError as error:
            self.presence.lose(error)
        self._watches = [
            asyncio.create_task(self._keep_listening(server)),
            asyncio.create_task(self._keep_looking(server)),
        ]

    async def stop(self) -> None:
        """End what still runs over there, and let go of the server."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        server, self.server = self.server, None
        await self._relays.end(PeerLostError("This backend was stopped."))
        await self._errands.settle()
        if server is not None:
            await server.web.close()

    async def refresh_models(self, _request: RefreshModels) -> ModelsRefreshed:
        """Read the server's lists again."""
        await self._look(self._server())
        return ModelsRefreshed()

    async def load_model(self, request: LoadModel) -> AsyncGenerator[Loaded, None]:
        """Make sure that the server has the model; it loads what a job names when that runs."""
        self.catalogue.native("Stable-Diffusion", request.name)
        yield Loaded(request.name)

    async def free_memory(self, request: FreeMemory) -> Freed:
        """Have the server free memory."""
        await self._server().free(system_ram=request.system_ram)
        return Freed(True)

    async def generate(self, job: ImageJob) -> AsyncGenerator[Progress | Preview | Output | RawFrame, None]:
        """Have the server make a picture, and pass on what it tells meanwhile."""
        server = self._server()
        work = ComfyJob(server, self.events, self.catalogue, job, float(self.settings.stuck_seconds))
        try:
            async with aclosing(self._relays.follow(self._made(work), JOB_SECONDS)) as replies:
                async for reply in replies:
                    yield reply
        except PeerLostError as error:
            if self.server is not None:
                self.presence.lose(error)
                self._wake.set()
            raise
        except PeerError as error:
            raise PeerError(server.web.hide(error.text), error.error_id) from None
        self.presence.succeed()

    async def _made(self, work: ComfyJob) -> AsyncGenerator[Any, None]:
        try:
            async with aclosing(work.replies()) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._errands.run(self._clean(work))

    async def _clean(self, work: ComfyJob) -> None:
        try:
            await insist(work.clean)
        except BackendError as error:
            log.info("%s: a job was not ended there: %s", self.slot.label, error.text)

    def _server(self) -> ComfyServer:
        if self.server is None:
            raise PeerLostError("This backend is stopped.")
        return self.server

    async def _keep_looking(self, server: ComfyServer) -> None:
        """Read the server's lists now and then; one that was lost is back when they are read and its socket is open."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(self.presence.rest)
            try:
                await self._look(server)
            except BackendError as error:
                log.info("%s: its lists were not read: %s", self.slot.label, error.text)
                if self.presence.is_lost:
                    self.presence.lose(error)
            else:
                self._show_back()

    def _pause(self) -> float:
        return LOOK_SECONDS if self.presence.is_lost and self._hears else LISTS_SECONDS

    async def _look(self, server: ComfyServer) -> None:
        """Read what the server has, and show it."""
        try:
            found = await server.catalogue()
            found.check()
        except PeerError as error:
            raise PeerError(server.web.hide(error.text), error.error_id) from None
        if found.nodes != self.catalogue.nodes:
            self.catalogue, self.slot.models, self.slot.options = found, found.models(), found.choices()
            if self.slot.host is not None:
                self.slot.describe(abilities=self.slot.host.abilities, features=self.features)
            self.slot.changed()

    async def _keep_listening(self, server: ComfyServer) -> None:
        while True:
            try:
                await self._listen(server)
            except BackendError as error:
                self._deafen(error)
            except Exception as error:
                log.exception("%s: listening to ComfyUI failed", self.slot.label)
                self._deafen(BackendError(f"Something went wrong here ({type(error).__name__})."))
            pause = AGAIN_SECONDS if self.presence.is_lost else FIRST_SECONDS
            await asyncio.sleep(max(pause, self.presence.rest))

    async def _listen(self, server: ComfyServer) -> None:
        async with server.socket() as socket:
            self._hears = True
            if self.presence.is_lost:
                self._wake.set()
            async for message in messages(socket):
                await self.events.hear(message)
        raise PeerLostError(f"{server.web.name} closed the connection.")

    def _deafen(self, error: BackendError) -> None:
        """A connection that was open gets one more try, unless too many broke of late; then the jobs over there are lost."""
        was_open, self._hears = self._hears, False
        if not was_open or self.presence.stumble():
            self.presence.lose(error)
            self._relays.abort(PeerLostError(error.text))

    def _show_back(self) -> None:
        if not self._hears or self.presence.rest:
            return
        self.presence.find()


def comfy_type(rules: Rules) -> BackendType:
    """The type `comfyui_api`, under an operator's rules."""

    def make(settings: ComfySettings) -> ComfyBackend:
        return ComfyBackend(settings, rules)

    return BackendType(
        COMFY,
        "ComfyUI API By URL",
        make=make,
        settings=ComfySettings,
        description="A ComfyUI server: this one sends it graphs, and shows its models.",
        features=("comfyui",),
        slots=places,
        in_process=True,
    )
