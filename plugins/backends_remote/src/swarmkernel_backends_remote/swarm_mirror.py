"""A backend of another server, as a backend of this one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final, Protocol

import attrs

from swarmkernel_backend_api import BackendError, Backends, BackendSlot, Freed, FreeMemory
from swarmkernel_backends_remote.answers import fraction
from swarmkernel_backends_remote.errands import Errands, insist
from swarmkernel_backends_remote.errors import PeerBusyError, PeerError, PeerLostError
from swarmkernel_backends_remote.pictures import PREVIEW_PIXELS, most_pixels, picture_of_url
from swarmkernel_backends_remote.presence import Presence
from swarmkernel_backends_remote.relay import Relays
from swarmkernel_backends_remote.swarm_inventory import RemoteBackend
from swarmkernel_backends_remote.swarm_peer import Peer, PeerSession
from swarmkernel_backends_remote.swarm_request import MAX_PREVIEW, frame_mib, raw_frame, request_body
from swarmkernel_backends_remote.swarm_settings import SwarmSettings
from swarmkernel_models_api import Loaded, LoadModel, ModelList, stem
from swarmkernel_t2i_api import ImageJob, Output, Preview, Progress, RawFrame

log = logging.getLogger(__name__)

LOAD_SECONDS: Final = 600.0
FREE_SECONDS: Final = 30.0
#: How long work waits for a place on a server that has none.
BUSY_SECONDS: Final = 1.0
#: The longest that one picture may take over there.
JOB_SECONDS: Final = 4 * 3600.0


@attrs.frozen
class MirrorSettings:
    """Which backend of the other server it is."""

    remote_id: int = 0
    remote_type: str = ""
    origin: str = ""


class Control(Protocol):
    """What a child needs of the backend that has it."""

    settings: SwarmSettings
    peer: Peer
    models: ModelList
    options: Mapping[str, tuple[str, ...]]
    presence: Presence

    def doubt(self, error: PeerLostError) -> None:
        """Some work found the other server lost."""


@attrs.define(eq=False)
class Mirror:
    """One backend over there. Each job has a session of its own there, so that an interrupt ends nothing else."""

    control: Control
    remote: RemoteBackend
    relays: Relays = attrs.field(factory=Relays, init=False)
    _errands: Errands = attrs.field(factory=Errands, init=False)

    @property
    def features(self) -> tuple[str, ...]:
        """What the backend there supports."""
        return self.remote.features

    def attach(self, slot: BackendSlot, _backends: Backends) -> None:
        """Show from the start what the backend there has."""
        slot.models, slot.current_model = self.control.models, self.remote.model
        slot.options = self.control.options
        slot.via = (self.control.peer.server_id, *self.remote.via)

    async def start(self) -> None:
        """Keep the connection open."""
        await self.control.peer.hold()

    async def stop(self) -> None:
        """End what still runs over there, and let go of the connection."""
        await self.relays.end(PeerLostError("This backend was stopped."))
        await self._errands.settle()
        await self.control.peer.let_go()

    async def free_memory(self, request: FreeMemory) -> Freed:
        """Have the backend there free memory."""
        async with self._session() as session:
            answer = await self.control.peer.call(
                session,
                "FreeBackendMemory",
                seconds=FREE_SECONDS,
                system_ram=request.system_ram,
                backend=str(self.remote.id),
            )
        return Freed(answer.get("result") is True and answer.get("count", 1) != 0)

    async def generate(self, job: ImageJob) -> AsyncGenerator[Progress | Preview | Output | RawFrame, None]:
        """Have the backend there make a picture, and pass on what it tells meanwhile."""
        try:
            async with aclosing(self.relays.follow(self._made(job), JOB_SECONDS)) as replies:
                async for reply in replies:
                    yield reply
        except PeerLostError as error:
            self.control.doubt(error)
            raise
        self.control.presence.succeed()

    async def _made(self, job: ImageJob) -> AsyncGenerator[Any, None]:
        body = request_body(job, self.remote.id, self._name(job.model))
        async with self._session() as session:
            source = self._followed if self.control.settings.allow_websocket else self._awaited
            while True:
                try:
                    async with aclosing(source(session, body, job)) as replies:
                        async for reply in replies:
                            yield reply
                except PeerBusyError as error:
                    log.info("A picture waits: %s", error.text)
                    await asyncio.sleep(BUSY_SECONDS)
                else:
                    return

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[PeerSession]:
        """A session for one piece of work. If that does not end by itself it is interrupted there."""
        session = await self.control.peer.borrow()
        try:
            yield session
        except BaseException:
            self._errands.run(self._interrupt(session))
            raise
        self.control.peer.give_back(session)

    async def _interrupt(self, session: PeerSession) -> None:
        peer = self.control.peer
        await peer.hold()
        try:
            await insist(lambda: self._tell_interrupt(session))
            peer.give_back(session)
        except BackendError as error:
            log.info("An interrupt was not passed on: %s", error.text)
        finally:
            await peer.let_go()

    async def _tell_interrupt(self, session: PeerSession) -> None:
        await self.control.peer.call(session, "InterruptAll", other_sessions=False)

    async def _awaited(
        self, session: PeerSession, body: Mapping[str, Any], job: ImageJob
    ) -> AsyncGenerator[Any, None]:
        answer = await self.control.peer.call(session, "GenerateText2Image", seconds=JOB_SECONDS, **body)
        images = answer.get("images")
        if not isinstance(images, list) or not images:
            raise PeerError(f"{self.control.peer.name} made no picture.")
        yield Output(await picture_of_url(images[0], most_pixels(job)))

    async def _followed(
        self, session: PeerSession, body: Mapping[str, Any], job: ImageJob
    ) -> AsyncGenerator[Any, None]:
        image: object = None
        async with aclosing(
            self.control.peer.stream(session, "GenerateText2ImageWS", body, frame_mib(job))
        ) as frames:
            async for frame in frames:
                image = frame.get("image", image)
                if isinstance(progress := frame.get("gen_progress"), dict):
                    async for reply in self._progress(progress, job):
                        yield reply
                elif isinstance(raw := frame.get("raw_backend_data"), dict):
                    if job.forward_raw and (found := raw_frame(raw)) is not None:
                        yield found
                elif "discard_indices" in frame or "socket_intention" in frame:
                    break
        if image is None:
            raise PeerError(f"{self.control.peer.name} made no picture.")
        yield Output(await picture_of_url(image, most_pixels(job)))

    async def _progress(self, said: Mapping[str, Any], job: ImageJob) -> AsyncIterator[Progress | Preview]:
        yield Progress(round(fraction(said.get("overall_percent")) * job.steps), job.steps)
        preview = said.get("preview")
        if job.previews and isinstance(preview, str) and len(preview) <= MAX_PREVIEW:
            with suppress(PeerError):
                yield Preview(await picture_of_url(preview, PREVIEW_PIXELS))

    def _name(self, name: str | None) -> str | None:
        """What a model is called over there."""
        found = {stem(known): known for known in self.control.models.by_kind.get("Stable-Diffusion", ())}
        return None if name is None else found.get(stem(name), name)


@attrs.define(eq=False)
class LoadingMirror(Mirror):
    """A backend over there that can load models."""

    async def load_model(self, request: LoadModel) -> AsyncGenerator[Loaded, None]:
        """Have the backend there load a model of its server."""
        async with self._session() as session:
            answer = await self.control.peer.call(
                session,
                "SelectModel",
                seconds=LOAD_SECONDS,
                model=self._name(request.name),
                backendId=self.remote.id,
            )
        if answer.get("success") is not True:
            raise PeerError(f"{self.control.peer.name} did not load the model.")
        yield Loaded(request.name)
