"""The routes of text to image, and who may call them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from swarmkernel import Body, Call, Route, RouteError
from swarmkernel_backend_api import BackendError
from swarmkernel_t2i_api.catalogue import Refresher, catalogue
from swarmkernel_t2i_api.errors import T2IError
from swarmkernel_t2i_api.live.collect import collect
from swarmkernel_t2i_api.live.socket import GenerationSocket
from swarmkernel_t2i_api.outputs.errors import OutputError
from swarmkernel_t2i_api.permissions import GENERATE_IMAGES, REFRESH, SEE_PARAMS
from swarmkernel_t2i_api.settings import T2ISettings


async def generate_text2image(call: Call, images: int, raw: Body) -> dict[str, Any]:  # noqa: ARG001
    """
    Generate images and answer when all are finished.

    Beside `images` (how many) the body holds any parameters that `ListT2IParams` names, by id or name;
    `presets`, a list of titles; and `extra_metadata`, an object to keep with the images.
    Answers `images`: paths below this server, such as `View/local/raw/....png`, or data URLs with `donotsave`.
    """
    try:
        return {"images": await collect(call, raw)}
    except (T2IError, BackendError, OutputError) as error:
        raise RouteError(str(error), error_id=error.error_id) from None


async def generate_text2image_ws(call: Call, images: int, raw: Body) -> AsyncIterator[dict[str, Any]]:  # noqa: ARG001
    """
    Generate images and follow each from start to end.

    Takes what `GenerateText2Image` takes, and checks the permission with each further request. Sends `status`, `gen_progress` with previews, `image`, `keep_alive`,
    `discard_indices`, and `error` frames. Further requests may be sent on the same socket; when nothing is left,
    `socket_intention` announces the end, and the last frame is a status.
    """
    socket = GenerationSocket(call, call.get(T2ISettings), GENERATE_IMAGES)
    async with aclosing(socket.frames(raw)) as frames:
        async for frame in frames:
            yield frame


async def list_t2i_params(call: Call) -> dict[str, Any]:
    """List the parameters of a generation with their groups, the models by subtype, and the classes of models."""
    return await catalogue(call)


async def trigger_refresh(
    call: Call,
    strong: bool = True,
    refreshType: str | None = None,  # noqa: N803  # the name on the wire
) -> dict[str, Any]:
    """
    Scan the model folders again, if the caller may and it was not done just now, and answer as `ListT2IParams`.

    Not `strong`, or with a `refreshType` of `wildcards`, nothing is scanned.
    """
    if strong and (refreshType or "").lower() != "wildcards" and call.allowed(REFRESH):
        await call.get(Refresher).refresh()
    return await catalogue(call)


ROUTES = (
    Route(
        "GenerateText2Image",
        generate_text2image,
        permission=GENERATE_IMAGES,
        touches_session=True,
        large=True,
    ),
    Route(
        "GenerateText2ImageWS",
        generate_text2image_ws,
        permission=GENERATE_IMAGES,
        touches_session=True,
        large=True,
    ),
    Route("ListT2IParams", list_t2i_params, permission=SEE_PARAMS),
    Route("TriggerRefresh", trigger_refresh, permission=SEE_PARAMS),
)
