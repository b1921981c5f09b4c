"""A ComfyUI server as a backend."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
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
    Status,
)
from swarmkernel_backends_remote.comfy_catalogue import Catalogue
from swarmkernel_backends_remote.comfy_events import Events
from swarmkernel_backends_remote.comfy_job import ComfyJob
from swarmkernel_backends_remote.comfy_server import ComfyServer
from swarmkernel_backends_remote.comfy_settings import ComfySettings, places
from swarmkernel_backends_remote.errors import PeerLostError
from swarmkernel_backends_remote.relay import Relay
from swarmkernel_backends_remote.settings import RemoteSettings
from swarmkernel_models_api import Loaded, LoadModel
from swarmkernel_t2i_api import ImageJob, Output, Preview, Progress

log = logging.getLogger(__name__)

COMFY: Final = "comfyui_api"
#: How often the server's lists are read again, and how soon a lost connection is tried again: at first, and then.
LISTS_SECONDS: Final = 60.0
FIRST_SECONDS: Final = 0.2
AGAIN_SECONDS: Final = 2.0
#: How long work waits for a server that is lost.
GRACE_SECONDS: Final = 30.0
#: The longest that one picture may take over there, with all that is queued before it.
JOB_SECONDS: Final = 4 * 3600.0
#: Jobs that are still to be ended there, once the server is back.
MOST_LEFT: Final = 64
_LAST_WORDS_SECONDS: Final = 2.0


@attrs.define(eq=False)
class ComfyBackend:
    """One server. One socket tells of all its jobs; if that breaks and cannot be opened again at once, they are lost."""

    settings: ComfySettings
    rules: RemoteSettings
    slot: BackendSlot = attrs.field(init=False)
    server: ComfyServer | None = attrs.field(default=None, init=False)
    catalogue: Catalogue = attrs.field(factory=lambda: Catalogue({}), init=False)
    events: Events = attrs.field(factory=Events, init=False)
    _lost_at: float | None = attrs.field(default=None, init=False)
    _was_open: bool = attrs.field(default=False, init=False)
    _relays: set[Relay] = attrs.field(factory=set, init=False)
    _watches: list[asyncio.Task[None]] = attrs.field(factory=list, init=False)
    _tasks: set[asyncio.Task[Any]] = attrs.field(factory=set, init=False)
    _left: deque[ComfyJob] = attrs.field(factory=lambda: deque(maxlen=MOST_LEFT), init=False)

    @property
    def features(self) -> tuple[str, ...]:
        """What the server can do beside making a picture from a text."""
        return self.catalogue.features

    def attach(self, slot: BackendSlot, _backends: Backends) -> None:
        """Know the own slot. Until its lists are read the server has no models."""
        self.slot = slot
        slot.models = self.catalogue.models()

    async def start(self) -> None:
        """Read what the server has. One that is out of reach is waited for; one that refuses is an error."""
        if not self.settings.address.strip():
            raise NotConfiguredError("The setting Address is empty.")
        self.server = server = ComfyServer.of(self.settings, self.rules)
        await server.web.open()
        try:
            await self._look(server)
        except PeerLostError as error:
            self._show_away(error)
        self._watches = [
            asyncio.create_task(self._keep_listening(server)),
            asyncio.create_task(self._keep_looking(server)),
        ]

    async def stop(self) -> None:
        """Let go of the server; interrupts that are under way may still arrive."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS_SECONDS)
        server, self.server = self.server, None
        if server is not None:
            await server.web.close()

    async def load_model(self, request: LoadModel) -> AsyncGenerator[Loaded, None]:
        """Make sure that the server has the model; it loads what a job names when that runs."""
        self.catalogue.native("Stable-Diffusion", request.name)
        yield Loaded(request.name)

    async def free_memory(self, request: FreeMemory) -> Freed:
        """Have the server free memory."""
        await self._server().free(system_ram=request.system_ram)
        return Freed(True)

    async def generate(self, job: ImageJob) -> AsyncGenerator[Progress | Preview | Output, None]:
        """Have the server make a picture, and pass on what it tells meanwhile."""
        work = ComfyJob(self._server(), self.events, self.catalogue, job, float(self.settings.stuck_seconds))
        relay = Relay(self._made(work), JOB_SECONDS)
        self._relays.add(relay)
        try:
            async with aclosing(relay.replies()) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._relays.discard(relay)

    async def _made(self, work: ComfyJob) -> AsyncGenerator[Any, None]:
        try:
            async with aclosing(work.replies()) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._spawn(self._clean(work))

    async def _clean(self, work: ComfyJob) -> None:
        try:
            await work.clean()
        except BackendError as error:
            log.info("%s: a job was not ended there: %s", self.slot.label, error.text)
            if isinstance(error, PeerLostError):
                self._left.append(work)

    def _server(self) -> ComfyServer:
        if self.server is None:
            raise PeerLostError("This backend is stopped.")
        return self.server

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_looking(self, server: ComfyServer) -> None:
        while True:
            await asyncio.sleep(LISTS_SECONDS)
            try:
                await self._look(server)
            except BackendError as error:
                log.info("%s: its lists were not read: %s", self.slot.label, error.text)

    async def _look(self, server: ComfyServer) -> None:
        """Read what the server has, and show it."""
        found = await server.catalogue()
        found.check()
        if found.nodes != self.catalogue.nodes:
            self.catalogue, self.slot.models = found, found.models()
            if self.slot.host is not None:
                self.slot.describe(abilities=self.slot.host.abilities, features=self.features)
            self.slot.changed()

    async def _keep_listening(self, server: ComfyServer) -> None:
        while True:
            try:
                await self._listen(server)
            except BackendError as error:
                self._lose(error)
            except Exception as error:
                log.exception("%s: listening to ComfyUI failed", self.slot.label)
                self._lose(BackendError(f"Something went wrong here ({type(error).__name__})."))
            await asyncio.sleep(FIRST_SECONDS if self._lost_at is None else AGAIN_SECONDS)

    async def _listen(self, server: ComfyServer) -> None:
        if self._lost_at is not None:
            await self._look(server)
        async with server.socket() as socket:
            self._show_back()
            async for message in socket:
                await self.events.hear(message)
        raise PeerLostError(f"{server.web.name} closed the connection.")

    def _lose(self, error: BackendError) -> None:
        """A connection that was open gets one more try; then the jobs over there are lost."""
        if self._was_open:
            self._was_open = False
            return
        self._show_away(error)
        for relay in list(self._relays):
            relay.abort(PeerLostError(error.text))

    def _show_away(self, error: BackendError) -> None:
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            log.warning("%s is away: %s", self.slot.label, error.text)
        soon = now - self._lost_at < GRACE_SECONDS
        status = Status.IDLE if self.settings.allow_idle else Status.ERRORED
        if (status, error.text, soon) != (self.slot.away, self.slot.reason, self.slot.restarting):
            self.slot.set_away(status, error.text, soon=soon)

    def _show_back(self) -> None:
        self._was_open = True
        if self._lost_at is not None:
            log.info("%s is back", self.slot.label)
        self._lost_at = None
        if self.slot.away is not None:
            self.slot.set_away(None)
        while self._left:
            self._spawn(self._clean(self._left.popleft()))


def comfy_type(rules: RemoteSettings) -> BackendType:
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
