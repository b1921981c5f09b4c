"""The few plain pages and answers outside the API."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route as HTTPRoute
from starlette.types import Receive, Scope, Send

PREFLIGHT = {
    "access-control-allow-methods": "*",
    "access-control-allow-headers": "*",
    "access-control-max-age": "3600",
}
#: A page of ours runs no script, loads nothing, and is framed by nobody else.
HTML_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>SwarmKernel</title>"
    "<body style='font-family:sans-serif;max-width:40em;margin:4em auto'><h1>{title}</h1><p>{text}</p></body></html>"
)


def _page(title: str, text: str) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(title=title, text=text), headers=HTML_HEADERS)


async def home(_: Request) -> Response:
    """What a browser sees at the root."""
    return _page(
        "SwarmKernel is running",
        "This server speaks the SwarmUI network API. Its routes are described in "
        "<a href='/openapi.json'>/openapi.json</a>.",
    )


async def no_get(_: Request) -> Response:
    """Where a GET of an API route leads."""
    return _page(
        "This is an API route",
        "API routes take a POST with a JSON object, or a WebSocket where the name ends in WS. "
        "Start with <code>POST /API/GetNewSession</code> and the body <code>{}</code>.",
    )


async def alive(_: Request) -> Response:
    """Answers as long as the process does."""
    return JSONResponse({"status": "ok"})


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer for a path that nobody serves."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    body = {"error": "There is nothing at this path.", "error_id": "not_found"}
    await JSONResponse(body, status_code=404)(scope, receive, send)


ROUTES = (
    HTTPRoute("/", home),
    HTTPRoute("/Error/NoGetAPI", no_get),
    HTTPRoute("/health/live", alive),
)
