"""One WebSocket on which a client generates: requests in, frames out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress
from typing import Any

import attrs

from swarmkernel import BadRequestError, Call, Permission
from swarmkernel_backend_api import Backends, Claims, backend_status, supported_features
from swarmkernel_t2i_api.errors import ParamError, T2IError
from swarmkernel_t2i_api.jobs.events import Accepted, Done, Event, Events
from swarmkernel_t2i_api.jobs.jobs import Jobs
from swarmkernel_t2i_api.live.feed import STATUS, Feed
from swarmkernel_t2i_api.live.outbox import Frame, Outbox
from swarmkernel_t2i_api.params.request import ImageRequest, RequestReader
from swarmkernel_t2i_api.settings import T2ISettings

log = logging.getLogger(__name__)

#: How many frames may wait for a client before its further requests do.
MAX_FRAMES = 256


@attrs.define(eq=False)
class GenerationSocket:
    """Runs one client's socket. Its jobs go on, and are saved, when the client is gone."""

    call: Call
    settings: T2ISettings
    permission: Permission
    outbox: Outbox = attrs.field(init=False)
    _feed: Feed = attrs.field(init=False)
    _stack: ExitStack = attrs.field(factory=ExitStack, init=False)
    _open: int = attrs.field(default=0, init=False)
    _offset: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(self.settings.outbox_bytes)
        self._feed = Feed(self.outbox, self.call.get(Jobs).pictures, self.status)

    def status(self) -> Frame:
        """The status object, as of now."""
        return status_frame(self.call)

    async def frames(self, first: dict[str, Any]) -> AsyncGenerator[Frame, None]:
        """Everything to send, from the first request until no further one came in time."""
        self._open += 1
        listener = asyncio.create_task(self._listen(first))
        try:
            while self._open or len(self.outbox):
                async with aclosing(self._until_done()) as frames:
                    async for frame in frames:
                        yield frame
                yield {"socket_intention": "close"}
                await self.outbox.wait(self.settings.socket_grace)
            yield self.status()
        finally:
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener
            self._stack.close()
            self.outbox.clear()

    async def _until_done(self) -> AsyncGenerator[Frame, None]:
        while True:
            while (frame := self.outbox.next()) is not None:
                yield frame
            if not self._open:
                return
            if not await self.outbox.wait(self.settings.keep_alive):
                yield {"keep_alive": True}

    async def _listen(self, first: dict[str, Any]) -> None:
        """Begin the first request (which counts as open already), then every further one that the client sends."""
        await self._begin(first)
        with suppress(BadRequestError):
            while (body := await self.call.receive()) is not None and not self.call.session.ended.is_set():
                self._open += 1
                await self._begin(body)
                await self.outbox.wait_for_room(MAX_FRAMES)

    async def _begin(self, body: dict[str, Any]) -> None:
        """Read and submit a request. While it is open by itself it counts; then its jobs do."""
        try:
            self._check(body)
            self._submit(await self.call.get(RequestReader).read(body, self.call.session, self.call.allowed))
        except T2IError as error:
            self._refuse(str(error), error.error_id)
        except Exception:
            log.exception("a request could not be read")
            self._refuse("Something went wrong in the server; its log says more.", "internal_error")
        finally:
            self._open -= 1
            self.outbox.poke()

    def _check(self, body: dict[str, Any]) -> None:
        """Raise T2IError unless the caller may generate now: roles change while a socket is open."""
        if not self.call.allowed(self.permission):
            raise T2IError("You lack permission to generate.", "bad_permissions")
        if body.get("images") is None:
            raise ParamError("The request lacks the parameter images: how many to make.", "missing_parameter")

    def _refuse(self, text: str, error_id: str) -> None:
        self.outbox.latest(STATUS, self.status)
        self.outbox.put({"error": text, "error_id": error_id})

    def _submit(self, request: ImageRequest) -> None:
        offset, self._offset = self._offset, self._offset + request.count
        with ExitStack() as listening:
            listening.enter_context(self.call.get(Events).listen(self._hear, request))
            self.call.get(Jobs).submit(request, offset)
            self._stack.push(listening.pop_all())

    def _hear(self, event: Event) -> None:
        self._feed(event)
        if isinstance(event, Accepted):
            self._open += 1
        elif isinstance(event, Done):
            self._open -= 1


def status_frame(call: Call) -> Frame:
    """The counters of the caller's session, and what the backends are up to."""
    backends = call.get(Backends)
    return {
        "status": call.get(Claims).counts(call.session.id),
        "backend_status": backend_status(backends),
        "supported_features": supported_features(backends),
    }
