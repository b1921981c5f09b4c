"""Serves the output folder: `/View/<user>/<path>` and `/Output/<path>`."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Callable

import anyio
import attrs
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from swarmkernel import Permission, Permissions, Services, Session, UserData, viewer
from swarmkernel_t2i_api.outputs.clean import clean_user_id
from swarmkernel_t2i_api.outputs.errors import BadPathError, OutputError
from swarmkernel_t2i_api.outputs.files import ANIMATED_THUMBNAIL, THUMBNAIL, Outputs, beside
from swarmkernel_t2i_api.outputs.media import is_inline, media_type_of
from swarmkernel_t2i_api.outputs.safe_paths import open_file, segments
from swarmkernel_t2i_api.outputs.thumbnails import Thumbnails

log = logging.getLogger(__name__)

#: Documents are served anew after this many seconds, media after as many as the operator says.
_DOCUMENT_CACHE_SECONDS = 2
_STATUS = {"file_not_found": 404, "file_error": 500}
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG})
_PREVIEWS_SETTING = "imagehistoryusepreviews"


def view_routes(services: Services, others: Permission, cache_seconds: int = 30) -> list[BaseRoute]:
    """The routes of the output folder that `services` offers; `others` permits to see what is not one's own."""
    outputs = services.get(Outputs)
    view = View(services, outputs, others, cache_seconds, Thumbnails(outputs))
    return [
        Route("/View/{user}/{path:path}", view.of_user, methods=["GET", "HEAD"]),
        Route("/Output/{path:path}", view.own, methods=["GET", "HEAD"]),
    ]


@attrs.define(eq=False)
class View:
    """The handlers of both routes."""

    services: Services
    outputs: Outputs
    others: Permission
    cache_seconds: int
    thumbnails: Thumbnails

    async def of_user(self, request: Request) -> Response:
        """`GET /View/<user>/<path>`: an output of that user, for themselves and for who may see others' outputs."""
        return await self._answer(request, self._of_user)

    async def own(self, request: Request) -> Response:
        """`GET /Output/<path>`: an output of the user who asks."""
        return await self._answer(request, self._own)

    def _of_user(self, request: Request, session: Session) -> tuple[str, ...]:
        """Whether others' outputs exist is not looked at before it is clear that the caller may know."""
        parts = segments(f"{request.path_params['user']}/{request.path_params['path']}")
        if not self.outputs.append_user:
            return parts
        owner = clean_user_id(parts[0])
        if owner != parts[0].lower():
            raise BadPathError
        is_own = owner == clean_user_id(session.user_id)
        if not is_own and not self.services.get(Permissions).allowed(session, self.others):
            raise OutputError("you may not see the outputs of other users", "unauthorized")
        return (owner, *parts[1:])

    def _own(self, request: Request, session: Session) -> tuple[str, ...]:
        return (*self.outputs.user_parts(session.user_id), *segments(request.path_params["path"]))

    async def _answer(
        self, request: Request, locate: Callable[[Request, Session], tuple[str, ...]]
    ) -> Response:
        try:
            session = await viewer(self.services, request)
            if session is None:
                raise OutputError("log in first", "invalid_user")
            parts = locate(request, session)
            return await self._file(request, session.user_id, parts)
        except OutputError as error:
            return _refusal(error)
        except OSError as error:
            if error.errno in _MISSING:
                return _refusal(OutputError("there is no such output", "file_not_found"))
            log.exception("an output could not be read")
            return _refusal(OutputError("the output could not be read", "file_error"))

    async def _file(self, request: Request, user: str, parts: tuple[str, ...]) -> Response:
        if request.query_params.get("preview") == "true" and await self._uses_previews(user):
            animated = request.query_params.get("noanim") != "true"
            found = await self._preview(request, parts, animated=animated)
            if found is not None:
                return found
        file = await anyio.to_thread.run_sync(open_file, self.outputs.root, parts)
        return await self._response(request, file, parts[-1])

    async def _preview(self, request: Request, parts: tuple[str, ...], *, animated: bool) -> Response | None:
        """The thumbnail of an output, made and kept if it is missing; None for what has none."""
        for suffix in (ANIMATED_THUMBNAIL, THUMBNAIL) if animated else (THUMBNAIL,):
            name = beside(parts[-1], suffix)
            try:
                file = await anyio.to_thread.run_sync(open_file, self.outputs.root, (*parts[:-1], name))
            except FileNotFoundError:
                continue
            return await self._response(request, file, name)
        data = await self.thumbnails.make(parts)
        if data is None:
            return None
        return Response(data, media_type="image/jpeg", headers=self._headers("image/jpeg"))

    async def _response(self, request: Request, file: io.FileIO, name: str) -> Response:
        media_type = media_type_of(name)
        response = _OpenFileResponse(file, name, media_type, self._headers(media_type))
        if response.headers["etag"] in request.headers.get("if-none-match", ""):
            file.close()
            return Response(status_code=304, headers=_without_body(response))
        return response

    def _headers(self, media_type: str) -> dict[str, str]:
        document = media_type.startswith(("application/", "text/"))
        age = min(_DOCUMENT_CACHE_SECONDS, self.cache_seconds) if document else self.cache_seconds
        return {
            "cache-control": f"private, max-age={age}",
            "content-security-policy": "sandbox",
            "x-content-type-options": "nosniff",
        }

    async def _uses_previews(self, user: str) -> bool:
        data: UserData | None = self.services.find(UserData)  # type: ignore[type-abstract]
        return data is None or bool((await data.settings(user)).get(_PREVIEWS_SETTING, True))


class _OpenFileResponse(FileResponse):
    """A file that is open already, so that what was checked is what is sent."""

    def __init__(self, file: io.FileIO, name: str, media_type: str, headers: dict[str, str]) -> None:
        self._file = file
        super().__init__(
            f"/dev/fd/{file.fileno()}",
            headers=headers,
            media_type=media_type,
            filename=None if is_inline(media_type) else name,
            stat_result=os.fstat(file.fileno()),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def _without_body(response: Response) -> dict[str, str]:
    return {key: value for key, value in response.headers.items() if not key.startswith("content-")}


def _refusal(error: OutputError) -> JSONResponse:
    status = _STATUS.get(error.error_id, 400)
    return JSONResponse(
        {"error": str(error), "error_id": error.error_id}, status, headers={"cache-control": "no-store"}
    )
