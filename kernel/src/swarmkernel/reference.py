"""What the route table says of itself: OpenAPI, Markdown, and rows for the command line."""

from __future__ import annotations

import inspect
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as HTTPRoute

from swarmkernel.declarations import Bound
from swarmkernel.kernel import VERSION, Kernel
from swarmkernel.permissions import Permission
from swarmkernel.routes import Body
from swarmkernel.wire import Parameter

_JSON_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    list[str]: {"type": "array", "items": {"type": "string"}},
}


@attrs.frozen
class Row:
    """One route as text."""

    name: str
    transport: str
    permission: str
    plugin: str
    parameters: str
    summary: str


def rows(kernel: Kernel) -> list[Row]:
    """Every route, by name."""
    return [_row(b) for b in kernel.routes]


def _row(bound: Bound) -> Row:
    route = bound.route
    permission = route.permission.id if isinstance(route.permission, Permission) else "public"
    doc = inspect.getdoc(route.handler) or ""
    parameters = ", ".join(_shown(p) for p in bound.parameters)
    transport = "websocket" if route.streams else "http"
    return Row(route.name, transport, permission, bound.plugin.name, parameters, doc.partition("\n\n")[0])


def _shown(parameter: Parameter) -> str:
    if parameter.kind is Body:
        return f"{parameter.name}: whole body"
    kind = _JSON_TYPES[parameter.kind]["type"]
    return f"{parameter.name}: {kind}" + ("" if parameter.required else f" = {parameter.default!r}")


def markdown(kernel: Kernel) -> str:
    """The reference page of the routes that this server has."""
    parts = ["# Routes\n"]
    for bound in kernel.routes:
        row = _row(bound)
        doc = inspect.getdoc(bound.route.handler) or ""
        parts.append(
            f"## {row.name}\n\n{row.transport} · permission `{row.permission}` · plugin `{row.plugin}`\n\n"
            f"Parameters: {row.parameters or 'none'}\n\n{doc}\n"
        )
    return "\n".join(parts)


def openapi(kernel: Kernel) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the plain HTTP routes."""
    paths = {f"/API/{b.route.name}": {"post": _operation(b)} for b in kernel.routes if not b.route.streams}
    return {
        "openapi": "3.1.0",
        "info": {"title": "SwarmKernel", "version": VERSION},
        "paths": paths,
    }


def _operation(bound: Bound) -> dict[str, Any]:
    session = isinstance(bound.route.permission, Permission)
    scalars = [p for p in bound.parameters if p.kind is not Body]
    properties = {p.name: _property(p) for p in scalars}
    if session:
        properties["session_id"] = {"type": "string"}
    schema = {
        "type": "object",
        "properties": properties,
        "required": [p.name for p in scalars if p.required] + (["session_id"] if session else []),
    }
    return {
        "operationId": bound.route.name,
        "summary": _row(bound).summary,
        "description": inspect.getdoc(bound.route.handler) or "",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The answer, or `error`.",
                "content": {"application/json": {"schema": {}}},
            },
            "400": {"description": "A request that is not understood or not allowed, with `error_id`."},
            "401": {"description": "The session id is not valid."},
        },
    }


def _property(parameter: Parameter) -> dict[str, Any]:
    shown = dict(_JSON_TYPES[parameter.kind])
    return shown if parameter.required else shown | {"default": parameter.default}


def openapi_route(kernel: Kernel) -> HTTPRoute:
    """``GET /openapi.json``."""
    document = openapi(kernel)

    async def get(_: Request) -> Response:
        return JSONResponse(document)

    return HTTPRoute("/openapi.json", get)
