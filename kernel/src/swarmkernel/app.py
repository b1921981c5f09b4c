"""The ASGI application: every request takes the same steps in the same order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import attrs
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Router
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from swarmkernel import pages, reference
from swarmkernel.answers import as_error, as_json, ending_unread, refuse, told, with_headers
from swarmkernel.arrivals import Held, Quota
from swarmkernel.audit import Pace, audited, audited_frames, require_log
from swarmkernel.declarations import Bound
from swarmkernel.errors import (
    BadRequestError,
    BusyError,
    InvalidSessionError,
    KernelError,
    NoResultError,
    StoppingError,
    TooLargeError,
    TooSlowError,
    WrongMethodError,
)
from swarmkernel.guard import Guard, headers_of
from swarmkernel.kernel import Kernel
from swarmkernel.permissions import PUBLIC, Permission
from swarmkernel.plugins import contained
from swarmkernel.routes import Call, Route
from swarmkernel.sessions import Session, Sessions
from swarmkernel.settings import MIB
from swarmkernel.sockets import Socket
from swarmkernel.users import Accounts
from swarmkernel.wire import bind, parse_aside

log = logging.getLogger(__name__)

PUBLIC_BODY = 64 * 1024
USUAL_BODY = MIB
API = "/api/"


def create_app(kernel: Kernel) -> App:
    """The application for any ASGI server; its lifespan runs the plugins."""
    return App(kernel)


@attrs.define(eq=False)
class App:
    """The kernel as an ASGI application. *sockets* are the open ones, *busy* counts requests being answered."""

    kernel: Kernel
    guard: Guard = attrs.field(init=False)
    sockets: set[Socket] = attrs.field(factory=set, init=False)
    busy: int = attrs.field(default=0, init=False)
    arriving: Quota = attrs.field(init=False)
    _pace: Pace = attrs.field(init=False)
    startup_error: Exception | None = attrs.field(default=None, init=False)
    _router: Router = attrs.field(factory=Router, init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.kernel.server
        self.guard = Guard(settings)
        self._pace = Pace(settings.audited_per_minute)
        self.arriving = Quota(
            settings.max_incoming_mb * MIB, settings.incoming_mb_per_client * MIB, settings.trusted_proxies
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, request or the lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] == "http":
            send = with_headers(send, self.kernel.server.allow_origin)
        headers = headers_of(scope)
        if scope["type"] == "http" and scope["http_version"].startswith("1"):
            receive, send = ending_unread(headers, receive, send)
        try:
            self.guard.check(scope, headers)
        except KernelError as exc:
            await refuse(exc, scope, receive, send)
            return
        await self._dispatch(scope, headers, receive, send)

    async def _dispatch(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        name = _api_name(scope["path"])
        if scope["type"] == "websocket":
            with contained():
                await self._websocket(WebSocket(scope, receive, send), headers, name)
            return
        self.busy += 1
        try:
            with contained():
                if name is not None:
                    response = await self._api(Request(scope, receive), headers, name)
                    await response(scope, receive, send)
                else:
                    await self._router(scope, receive, send)
        except ClientDisconnect:
            log.debug("the client went away")
        except Exception as exc:  # noqa: BLE001  # every failure has its JSON
            await as_error(told(exc))(scope, receive, send)
        finally:
            self.busy -= 1

    async def _api(self, request: Request, headers: Mapping[str, str], name: str) -> Response:
        if request.method == "OPTIONS" and self.kernel.server.allow_origin:
            return Response(status_code=204, headers=pages.PREFLIGHT)
        if request.method != "POST":
            return RedirectResponse("/Error/NoGetAPI", status_code=302)
        try:
            self._require_running()
            with self.arriving.holding(self.guard.client(request.scope, headers)) as held:
                body = await parse_aside(await self._body(request, headers, self._limit(name), held))
            bound, session = await self._admit(name, body, headers, streams=False)
            call, parameters = self._call(bound, session, body, headers, request.scope)
            return await _answered(bound.route, call, parameters)
        except ClientDisconnect:
            raise
        except Exception as exc:  # noqa: BLE001  # every failure has its JSON
            return as_error(told(exc))

    def _require_running(self) -> None:
        if self.kernel.stopping.is_set():
            raise StoppingError("The server is shutting down.")

    def _limit(self, name: str) -> int:
        route = self.kernel.route(name)
        if route is None or route.permission is PUBLIC:
            return PUBLIC_BODY
        return self.kernel.server.max_body_mb * MIB if route.large else USUAL_BODY

    def message_limit(self, path: str) -> int:
        """How much of a WebSocket message is read at *path*: twice what is taken, so that most get an answer."""
        return 2 * self._limit(_api_name(path) or "")

    async def _body(self, request: Request, headers: Mapping[str, str], limit: int, held: Held) -> bytes:
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise BadRequestError("The Content-Type must be application/json.")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            raise TooLargeError(f"The body is too large: this route takes at most {limit} bytes.")
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.kernel.server.body_seconds) as deadline:
                async for chunk in request.stream():
                    held.take(len(chunk))
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > limit:
                        raise TooLargeError(f"The body is too large: this route takes at most {limit} bytes.")
                    deadline.reschedule((deadline.when() or 0) + len(chunk) / (MIB / 4))
        except TimeoutError:
            raise TooSlowError("The body did not arrive in time.") from None
        if not size:
            raise BadRequestError("The body is empty; send a JSON object, such as {}.")
        return b"".join(chunks)

    async def _admit(
        self, name: str, body: dict[str, Any], headers: Mapping[str, str], *, streams: bool
    ) -> tuple[Bound, Session | None]:
        """Session, route, kind, use, permission: in the order that decides which error a client sees."""
        route = self.kernel.route(name)
        public = route is not None and route.permission is PUBLIC
        session = None if public else await self._session(body, headers)
        body.pop("session_id", None)
        bound = self.kernel.find(name)
        if bound.route.streams is not streams:
            needed = "a WebSocket" if bound.route.streams else "a plain HTTP POST"
            raise WrongMethodError(f"The route {bound.route.name} needs {needed}.")
        if session is not None and bound.route.touches_session:
            await self.kernel.services.get(Sessions).touch(session)
        if session is not None and isinstance(bound.route.permission, Permission):
            self.kernel.require(session, bound.route.permission)
        if session is not None and bound.route.audit is not None and self._has_accounts:
            self._pace.take(session.impersonator or session.user_id)
        return bound, session

    async def _session(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Session:
        given = body.get("session_id", "") if "session_id" in body else headers.get("x-session-id")
        if given is None and "session_id" not in body:
            raise BadRequestError("The session_id is missing; get one from GetNewSession.")
        found = await self.kernel.services.get(Sessions).find(str(given)[:100])
        if found is None:
            raise InvalidSessionError("The session id is not valid; get a new one from GetNewSession.")
        return found

    def _call(
        self,
        bound: Bound,
        session: Session | None,
        body: dict[str, Any],
        headers: Mapping[str, str],
        scope: Scope,
        socket: Socket | None = None,
    ) -> tuple[Call, dict[str, object]]:
        call = Call(
            self.kernel.services,
            body,
            headers,
            self.guard.address(scope, headers),
            self.guard.client(scope, headers),
            self.guard.scheme(scope, headers) == "https",
            session,
            self.kernel.permissions.allowed,
            socket.receive if socket else None,
        )
        return call, bind(bound.parameters, body)

    async def _websocket(self, websocket: WebSocket, headers: Mapping[str, str], name: str | None) -> None:
        if name is None:
            await self._router(websocket.scope, websocket.receive, websocket.send)
            return
        await websocket.accept()
        limit = self._limit(name)
        socket = Socket(websocket, limit)
        self.sockets.add(socket)
        try:
            async with socket:
                await self._talk(socket, headers, name)
        finally:
            self.sockets.discard(socket)

    async def _talk(self, socket: Socket, headers: Mapping[str, str], name: str) -> None:
        try:
            self._require_running()
            body = await socket.first(self.kernel.server.first_message_seconds)
            if body is None:
                return
            bound, session = await self._admit(name, body, headers, streams=True)
            call, parameters = self._call(bound, session, body, headers, socket.scope, socket)
            self._count_sockets(socket, session)
            frames = bound.route.handler(call, **parameters)
            if bound.route.audit is not None:
                frames = audited_frames(bound.route, call, frames)  # type: ignore[arg-type]
            await socket.answer(frames, session)  # type: ignore[arg-type]
        except Exception as exc:  # noqa: BLE001
            await socket.send(told(exc).body())
        await socket.close(1000)

    @property
    def _has_accounts(self) -> bool:
        return self.kernel.services.find(Accounts) is not None  # type: ignore[type-abstract]

    def _count_sockets(self, socket: Socket, session: Session | None) -> None:
        """Keep one user from taking all connections; while there are no accounts, there is one user only."""
        if session is None or not self._has_accounts:
            return
        socket.user_id = session.user_id
        most = self.kernel.server.sockets_per_user
        if sum(other.user_id == session.user_id for other in self.sockets) > most:
            raise BusyError(f"You have {most} open WebSockets, and may not have more; close one.")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        stack = AsyncExitStack()
        await receive()
        try:
            await stack.enter_async_context(self.kernel.life())
            self._router = Router([*self.kernel.mounts, *pages.ROUTES], default=pages.not_found)
            self._router.routes.append(reference.openapi_route(self.kernel))
        except Exception as exc:  # noqa: BLE001
            self.startup_error = exc
            await stack.aclose()
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await stack.aclose()
        await send({"type": "lifespan.shutdown.complete"})


async def _answered(route: Route, call: Call, parameters: Mapping[str, object]) -> Response:
    """Run a plain handler; not if nobody would see what has to be seen."""
    await require_log(route, call)
    work: Awaitable[object] = route.handler(call, **parameters)  # type: ignore[assignment]
    answer = await (work if route.audit is None else audited(route, call, work))
    if answer is None:
        raise NoResultError("The route had no result.")
    response = as_json(answer)
    for name, value in call.reply_headers:
        response.headers.append(name, value)
    return response


def _api_name(path: str) -> str | None:
    """The route's name in a path such as ``/API/GetNewSession``, or None for other paths."""
    return path[len(API) :] if path.lower().startswith(API) else None


__all__ = ["App", "create_app"]
