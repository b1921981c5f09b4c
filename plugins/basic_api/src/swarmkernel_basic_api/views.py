"""What is served outside ``/API``."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from swarmkernel import Services
from swarmkernel_basic_api.identity import viewing_user
from swarmkernel_basic_api.users import Users

HEADERS = {"Cache-Control": "private, max-age=30", "X-Content-Type-Options": "nosniff"}


def mounts(services: Services) -> Sequence[BaseRoute]:
    """The pages of this package."""

    async def preset_picture(request: Request) -> Response:
        """Answer with the picture of one of the caller's own presets."""
        peer = request.client.host if request.client else ""
        user_id = await viewing_user(services, request.headers, peer)
        if user_id is None:
            return _no(400, "invalid_user", "You are not logged in.")
        picture = await services.get(Users).presets.picture(user_id, request.path_params["title"])
        if picture is None:
            return _no(404, "file_not_found", "There is no such picture.")
        return Response(picture, media_type="image/jpeg", headers=HEADERS)

    return (Route("/ViewSpecial/Preset/{title:path}", preset_picture, methods=["GET"]),)


def _no(status: int, error_id: str, text: str) -> Response:
    return JSONResponse({"error": text, "error_id": error_id}, status)
