"""What is served outside ``/API``."""

import asyncio
from collections.abc import Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from swarmkernel import Permissions, Services, Session, viewer
from swarmkernel_basic_api.permissions import GENERATE_TAB
from swarmkernel_basic_api.users import SOUNDS, Users

HEADERS = {
    "Cache-Control": "private, max-age=30",
    "Content-Security-Policy": "sandbox",
    "X-Content-Type-Options": "nosniff",
}


def mounts(services: Services) -> Sequence[BaseRoute]:
    """The pictures of presets and the sounds of the data directory."""
    return (
        Route("/ViewSpecial/Preset/{title:path}", partial(_preset_picture, services), methods=["GET"]),
        Route("/Audio/{name:path}", partial(_sound, services), methods=["GET"]),
    )


async def _preset_picture(services: Services, request: Request) -> Response:
    """Answer with the picture of one of the caller's own presets."""
    session = await viewer(services, request)
    if session is None or not _may_look(services, session):
        return _nobody(session)
    picture = await services.get(Users).presets.picture(session.user_id, request.path_params["title"])
    if picture is None:
        return _no(404, "file_not_found", "There is no such picture.")
    return Response(picture, media_type="image/jpeg", headers=HEADERS)


async def _sound(services: Services, request: Request) -> Response:
    """Answer with a sound; its name is looked up among those that can be chosen."""
    session = await viewer(services, request)
    if session is None or not _may_look(services, session):
        return _nobody(session)
    name = request.path_params["name"]
    if not name.isprintable() or "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        return _no(400, "bad_path", "This is not the name of a file.")
    path = await asyncio.to_thread(services.get(Users).sound, name)
    if path is None:
        return _no(404, "file_not_found", "There is no such sound.")
    try:
        stat = await asyncio.to_thread(path.stat)
    except OSError:
        return _no(500, "file_error", "The sound could not be read.")
    return FileResponse(path, headers=HEADERS, media_type=SOUNDS[path.suffix.lower()], stat_result=stat)


def _may_look(services: Services, session: Session) -> bool:
    return services.get(Permissions).allowed(session, GENERATE_TAB)


def _nobody(session: Session | None) -> Response:
    if session is None:
        return _no(400, "invalid_user", "You are not logged in.")
    return _no(400, "unauthorized", "You lack permission to see this.")


def _no(status: int, error_id: str, text: str) -> Response:
    return JSONResponse({"error": text, "error_id": error_id}, status, headers={"Cache-Control": "no-store"})
