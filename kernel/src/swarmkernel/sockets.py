"""One client's WebSocket: messages in and out, and what happens when the client goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, Self

import attrs
from starlette.websockets import WebSocket, WebSocketDisconnect

from swarmkernel.errors import BadRequestError, TooLargeError
from swarmkernel.plugins import contained
from swarmkernel.sessions import Session
from swarmkernel.wire import dump, parse_aside

log = logging.getLogger(__name__)

#: A client that does not take a message for this long is gone.
SEND_SECONDS = 30.0
#: Some clients lose a message that arrives together with the close frame, so the frame comes this much later.
CLOSE_SECONDS = 0.02
#: Messages that a client may send ahead of the handler; more wait in the network.
AHEAD = 16


@attrs.define(eq=False)
class Socket:
    """An accepted WebSocket. Messages are JSON objects of at most *limit* bytes; *idle* until a handler runs."""

    _websocket: WebSocket
    limit: int
    gone: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    idle: bool = attrs.field(default=True, init=False)
    user_id: str | None = attrs.field(default=None, init=False)
    _inbox: asyncio.Queue[str | bytes | None] = attrs.field(init=False)
    _reader: asyncio.Task[None] | None = attrs.field(default=None, init=False)
    _sending: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._inbox = asyncio.Queue(AHEAD)

    @property
    def scope(self) -> dict[str, Any]:
        """The ASGI scope of the connection."""
        return dict(self._websocket.scope)

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    async def _read(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    break
                await self._inbox.put(message.get("text") or message.get("bytes") or "")
        self.gone.set()
        with suppress(asyncio.QueueFull):
            self._inbox.put_nowait(None)

    async def receive(self) -> dict[str, Any] | None:
        """The next message, or None once the client has gone."""
        if self.gone.is_set() and self._inbox.empty():
            return None
        raw = await self._inbox.get()
        if raw is None:
            return None
        size = len(raw.encode() if isinstance(raw, str) else raw)
        if size > self.limit:
            raise TooLargeError(f"The message is too large: this route takes at most {self.limit} bytes.")
        return await parse_aside(raw)

    async def first(self, seconds: float) -> dict[str, Any] | None:
        """The first message, or BadRequestError if it does not come in time."""
        try:
            async with asyncio.timeout(seconds):
                return await self.receive()
        except TimeoutError:
            raise BadRequestError("No message came; send a JSON object with the parameters.") from None

    async def answer(self, answers: AsyncIterator[object], session: Session | None) -> None:
        """Send what the handler yields until it ends, the client goes, or the session dies."""
        self.idle = False
        work = asyncio.create_task(self._send_all(answers))
        ends = [asyncio.create_task(self.gone.wait())]
        if session is not None:
            ends.append(asyncio.create_task(session.ended.wait()))
        try:
            await asyncio.wait([work, *ends], return_when=asyncio.FIRST_COMPLETED)
            if session is not None and session.ended.is_set():
                await self.close(4401, "session ended")
        finally:
            for task in [*ends, *([] if work.done() else [work])]:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if not work.cancelled():
            await work

    async def _send_all(self, answers: AsyncIterator[object]) -> None:
        with contained():  # inside the task, which a SystemExit would leave with the whole loop
            async with aclosing(answers):  # type: ignore[type-var]
                async for answer in answers:
                    await self.send(answer)
                    if self.gone.is_set():  # a handler that waits for nothing would let nobody else come on
                        return

    async def send(self, answer: object) -> None:
        """Send one JSON text message; a client that does not take it within half a minute is gone."""
        if self.gone.is_set():
            return
        try:
            async with self._sending, asyncio.timeout(SEND_SECONDS):
                await self._websocket.send_text(dump(answer).decode())
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            self.gone.set()

    async def close(self, code: int, reason: str = "") -> None:
        """Close with *code*; the client's own close frame is not waited for."""
        if not self.gone.is_set():
            await asyncio.sleep(CLOSE_SECONDS)
            self.gone.set()
            with suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close(code, reason)
