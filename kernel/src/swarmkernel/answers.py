"""How answers and failures leave the server over plain HTTP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from swarmkernel.errors import KernelError, StorageError, StoreError
from swarmkernel.wire import dump

log = logging.getLogger(__name__)


def told(exc: Exception) -> KernelError:
    """What the caller is told of *exc*; what was not meant for callers goes to the log."""
    if isinstance(exc, KernelError):
        return exc
    if isinstance(exc, StoreError):
        log.error("%s", exc)
        return StorageError("The server could not read or write its data; its log says why.")
    log.error("unexpected error", exc_info=exc)
    return KernelError("An internal error occurred; the server's log has the details.")


def as_json(answer: object, status: int = 200) -> Response:
    """An uncacheable JSON response."""
    return Response(dump(answer), status, {"cache-control": "no-store"}, "application/json")


def as_error(error: KernelError) -> Response:
    """The response of a failure."""
    return as_json(error.body(), error.status)


async def refuse(error: KernelError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer before anything else has looked at the request: plain HTTP, or a refused upgrade."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(as_error(error))
        return
    await as_error(error)(scope, receive, send)


def ending_unread(headers: Mapping[str, str], receive: Receive, send: Send) -> tuple[Receive, Send]:
    """
    Announce the end of the connection with an answer that comes before the body was read.

    The rest of the body makes the connection useless for another request, which a client must know beforehand.
    """
    unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    async def receiving() -> Any:
        nonlocal unread
        message = await receive()
        unread = unread and message.get("more_body", False)
        return message

    async def sending(message: Any) -> None:
        if unread and message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return receiving, sending


def with_headers(send: Send, origin: str) -> Send:
    """Keep browsers from guessing what an answer is, and other sites from using it, but for pages of *origin*."""
    usual = {b"x-content-type-options": b"nosniff"}
    if origin:
        usual |= {b"access-control-allow-origin": origin.encode("latin-1"), b"vary": b"Origin"}
    else:
        usual |= {b"cross-origin-resource-policy": b"same-origin"}

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in usual.items() if name not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending
