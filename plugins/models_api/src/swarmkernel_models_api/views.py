"""The pictures of models, outside `/API`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from swarmkernel import Services, viewer
from swarmkernel_models_api.models import Models
from swarmkernel_models_api.settings import KINDS

HEADERS = {
    "Cache-Control": "private, max-age=2",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


def mounts(services: Services) -> Sequence[BaseRoute]:
    """`/ViewSpecial/<kind>/<name of a model>`.

    The name is looked up among the models that are known; it never becomes part of a path.
    """
    return [
        Route(f"/ViewSpecial/{kind}/{{name:path}}", partial(_picture, services, kind), methods=["GET"])
        for kind in KINDS
    ]


async def _picture(services: Services, kind: str, request: Request) -> Response:
    session = await viewer(services, request)
    if session is None:
        return _no(400, "invalid_user", "You are not logged in.")
    models = services.get(Models)
    model = models.get(request.path_params["name"], kind, session)
    preview = await asyncio.to_thread(models.preview, model) if model else None
    if preview is None:
        return _no(404, "file_not_found", "There is no such picture.")
    return Response(preview.data, media_type=preview.media_type, headers=HEADERS)


def _no(status: int, error_id: str, text: str) -> Response:
    return JSONResponse(
        {"error": text, "error_id": error_id}, status, headers={"X-Content-Type-Options": "nosniff"}
    )
