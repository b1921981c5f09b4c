"""Changes to Hypercorn that it has no settings for, each held by a test over a real socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypercorn.asyncio import tcp_server
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.protocol import h11, ws_stream
from hypercorn.protocol.events import Request, StreamClosed
from hypercorn.protocol.h11 import H2ProtocolAssumedError
from hypercorn.protocol.ws_stream import FrameTooLargeError, Ping, WebsocketBuffer, WSStream

from swarmkernel.arrivals import Held, Quota
from swarmkernel.errors import BusyError

log = logging.getLogger(__name__)

PING_SECONDS = 20
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n"
)


def mend(connections: Quota, arriving: Quota, message_limit: Callable[[str], int]) -> None:
    """
    Change the imported Hypercorn for good.

    Args:
        connections: what open connections are counted by.
        arriving: what the bytes of unfinished WebSocket messages are counted by.
        message_limit: for a path, how many characters a message may have before the connection is cut.
    """
    # Compressed frames let 60 KB on the wire become 60 MiB in memory.
    ws_stream.server_extensions_handshake = lambda *_: None
    WSStream._send_pings = _send_pings  # noqa: SLF001
    h11.H11Protocol._check_protocol = _check_protocol  # noqa: SLF001
    _forget_ended_apps()
    _count_connections(connections)
    _bound_messages(arriving, message_limit)


async def _send_pings(stream: Any) -> None:
    """Hypercorn's own sleeps on after the socket has closed, which keeps the connection's task and delays a stop."""
    while not stream.closed:
        await stream._send_wsproto_event(Ping())  # noqa: SLF001
        for _ in range(PING_SECONDS):
            if stream.closed:
                return
            await asyncio.sleep(1)


async def _check_protocol(protocol: Any, request: Any) -> None:
    """
    Take HTTP/2 from a client that begins with it, and go on in HTTP/1.1 with one that asks to upgrade.

    An upgrade can carry requests past the rules of a proxy, and Hypercorn raises at a malformed one.
    """
    if (request.method, request.target, request.http_version) == (b"PRI", b"*", b"2.0"):
        raise H2ProtocolAssumedError(b"PRI * HTTP/2.0\r\n\r\n" + protocol.connection.trailing_data[0])


def _forget_ended_apps() -> None:
    """
    Let nobody wait for an application that takes no more of what its client sends.

    Hypercorn's queue between them fills, and the connection hangs in it for ever, with or without its client.
    """
    spawn_app = TaskGroup.spawn_app

    async def spawning(group: Any, app: Any, config: Any, scope: Any, send: Callable[[Any], Any]) -> Any:
        is_over = False

        async def sending(message: Any) -> None:
            nonlocal is_over
            if message is None:  # the application has ended
                is_over = True
                while not queue.empty():
                    queue.get_nowait()
            await send(message)

        async def putting(message: Any) -> None:
            nonlocal is_over
            if is_over:
                return
            if message["type"].endswith(".disconnect"):  # perhaps from within the application's own last send
                is_over = True
                while queue.full():
                    queue.get_nowait()
            await queue.put(message)

        queue = (await spawn_app(group, app, config, scope, sending)).__self__
        return putting

    TaskGroup.spawn_app = spawning


def _count_connections(connections: Quota) -> None:
    """Answer connections beyond the limit with 503 before a byte of them is read."""
    serve_one = tcp_server.TCPServer.run

    async def run(server: Any) -> None:
        peername = server.writer.get_extra_info("peername")
        with connections.holding(str(peername[0]) if peername else "") as held:
            try:
                held.take()
            except BusyError:
                with suppress(OSError):
                    server.writer.write(_FULL)
                server.writer.close()
                return
            try:
                await serve_one(server)
            except* Exception as group:
                # Whoever breaks the rules of a protocol could fill the log with tracebacks.
                log.warning("a connection ended in an error: %.200r", _first(group))
                log.debug("where that was", exc_info=group)

    tcp_server.TCPServer.run = run


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


class Buffer(WebsocketBuffer):  # type: ignore[misc]
    """An unfinished message: no longer than its route allows, and counted with all others that are arriving."""

    def __init__(self, max_length: int, held: Held) -> None:
        super().__init__(max_length)
        self.held = held
        self.is_cut = False

    def extend(self, event: Any) -> None:
        """Add a part; FrameTooLargeError, which ends the connection with 1009, if it is too much. Then nothing is kept."""
        if self.is_cut:
            return
        before = self.length
        try:
            super().extend(event)
            self.held.take(self.length - before)
        except (BusyError, FrameTooLargeError):
            self.clear()
            self.is_cut = True
            raise FrameTooLargeError from None

    def clear(self) -> None:
        """Begin the next message."""
        super().clear()
        self.held.give_back()


def _bound_messages(arriving: Quota, message_limit: Callable[[str], int]) -> None:
    handle = WSStream.handle

    async def handling(stream: Any, event: Any) -> None:
        if isinstance(event, Request):
            path = event.raw_path.partition(b"?")[0].decode("ascii", "replace")
            held = arriving.held(stream.client[0] if stream.client else "")
            stream.buffer = Buffer(message_limit(path), held)
        elif isinstance(event, StreamClosed):
            stream.buffer.clear()
        await handle(stream, event)

    WSStream.handle = handling
