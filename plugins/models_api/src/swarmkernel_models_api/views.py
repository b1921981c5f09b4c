"""The pictures of models, outside `/API`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from swarmkernel import LOCAL_USER, Accounts, Services, Sessions
from swarmkernel_models_api.models import Models
from swarmkernel_models_api.previews import read_preview
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
    user_id = await _viewing_user(services, request)
    if user_id is None:
        return _no(400, "invalid_user", "You are not logged in.")
    models = services.get(Models)
    model = models.get(request.path_params["name"], kind)
    if model is None or not models.visible_to(user_id, model):
        return _no(404, "file_not_found", "There is no such picture.")
    preview = await asyncio.to_thread(read_preview, model)
    if preview is None:
        return _no(404, "file_not_found", "This model has no picture.")
    return Response(preview.data, media_type=preview.media_type, headers=HEADERS)


async def _viewing_user(services: Services, request: Request) -> str | None:
    if "x-session-id" in request.headers:
        session = await services.get(Sessions).find(request.headers["x-session-id"])
        return session.user_id if session else None
    accounts = services.find(Accounts)  # type: ignore[type-abstract]
    if accounts is None:
        return LOCAL_USER
    return await accounts.identify(request.headers, request.client.host if request.client else "")


def _no(status: int, error_id: str, text: str) -> Response:
    return JSONResponse(
        {"error": text, "error_id": error_id}, status, headers={"X-Content-Type-Options": "nosniff"}
    )
