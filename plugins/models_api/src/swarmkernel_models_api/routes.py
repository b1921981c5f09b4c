"""The routes about models, and who may call them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from swarmkernel import Call, Route, RouteError
from swarmkernel_backend_api import Backends, Claims, backend_status, supported_features
from swarmkernel_models_api.listing import SORTS, list_below
from swarmkernel_models_api.models import Models
from swarmkernel_models_api.permissions import FUNDAMENTAL_MODEL_ACCESS, LOAD_MODELS_NOW
from swarmkernel_models_api.previews import data_urls
from swarmkernel_models_api.selection import select
from swarmkernel_models_api.settings import KINDS
from swarmkernel_models_api.types import MAIN, Model
from swarmkernel_models_api.wire import NO_MODEL, model_object

#: Listed by clients like a kind of model; nothing here offers any.
WILDCARDS = "Wildcards"


async def list_models(
    call: Call,
    path: str,
    depth: int,
    subtype: str = MAIN,
    sortBy: str = "Name",  # noqa: N803  # the name on the wire
    allowRemote: bool = True,  # noqa: N803
    sortReverse: bool = False,  # noqa: N803
    dataImages: bool = False,  # noqa: N803
) -> dict[str, Any]:
    """
    List the models of a subtype below a folder.

    `depth` (1 to 20) is how many levels of folders are shown. `sortBy` is `Name`, `Title`, `DateCreated` or
    `DateModified`, dates newest first. Without `allowRemote` models that only backends elsewhere have are left out. With `dataImages` previews come as `data:` URLs instead of addresses.
    Answers `folders`, relative to `path`, and `files`.
    """
    if sortBy.lower() not in SORTS:
        raise RouteError(f"Unknown sort mode {sortBy[:40]!r}: Name, Title, DateCreated or DateModified.")
    known = call.get(Models)
    models = [m for m in known.list(_kind(subtype), call.session) if m.is_local or allowRemote]
    loaded = _loaded_names(call)

    def answer() -> dict[str, Any]:
        shown = list_below(models, path, depth, sortBy.lower(), reverse=sortReverse)
        previews = data_urls(shown.models, known.preview) if dataImages else {}
        files = [
            model_object(m, loaded=_is_loaded(m, loaded), preview=previews.get(m.name)) for m in shown.models
        ]
        return {"folders": shown.folders, "files": files}

    return await asyncio.to_thread(answer)


async def describe_model(call: Call, modelName: str, subtype: str = MAIN) -> dict[str, Any]:  # noqa: N803
    """Describe one model. The name's ending `.safetensors` may be left out; `(None)` stands for no model."""
    if modelName.lower() == NO_MODEL["name"].lower() and _kind(subtype) == MAIN:
        return {"model": NO_MODEL}
    model = _found(call, modelName, _kind(subtype))
    return {"model": model_object(model, loaded=_is_loaded(model, _loaded_names(call)))}


async def list_loaded_models(call: Call) -> dict[str, Any]:
    """List the main models that any backend holds."""
    models = call.get(Models)
    loaded = (models.get(name, MAIN, call.session) for name in sorted(_loaded_names(call)))
    return {"models": [model_object(model, loaded=True) for model in loaded if model]}


async def select_model(call: Call, model: str, backendId: str | None = None) -> dict[str, Any]:  # noqa: N803
    """Load a main model onto all backends that can load it, or onto the one with that id; answers when it is done."""
    await select(call, _found(call, model, MAIN), backendId)
    return {"success": True}


async def select_model_ws(call: Call, model: str) -> AsyncIterator[dict[str, Any]]:
    """Load a main model onto all backends, with the status before and after."""
    found = _found(call, model, MAIN)
    yield _status(call)
    try:
        await select(call, found)
    except RouteError as exc:
        yield exc.body()
    else:
        yield {"success": True}
    yield _status(call)


def _status(call: Call) -> dict[str, Any]:
    backends = call.get(Backends)
    return {
        "status": call.get(Claims).counts(call.session.id),
        "backend_status": backend_status(backends),
        "supported_features": supported_features(backends),
    }


def _kind(subtype: str) -> str:
    known = {kind.lower(): kind for kind in (*KINDS, WILDCARDS)}.get(subtype.lower())
    if known is None:
        raise RouteError(f"Unknown subtype {subtype[:40]!r}: {', '.join((*KINDS, WILDCARDS))}.")
    return known


def _found(call: Call, name: str, kind: str) -> Model:
    if not name.strip():
        raise RouteError("No model is named.")
    model = call.get(Models).find(name, kind, call.session)
    if model is None:
        raise RouteError(f"There is no {kind} model {name[:200]!r}.", error_id="model_not_found")
    return model


def _loaded_names(call: Call) -> set[str]:
    return {slot.current_model for slot in call.get(Backends) if slot.current_model}


def _is_loaded(model: Model, names: set[str]) -> bool:
    return model.kind == MAIN and model.name in names


ROUTES = (
    Route("ListModels", list_models, permission=FUNDAMENTAL_MODEL_ACCESS),
    Route("DescribeModel", describe_model, permission=FUNDAMENTAL_MODEL_ACCESS),
    Route("ListLoadedModels", list_loaded_models, permission=FUNDAMENTAL_MODEL_ACCESS),
    Route("SelectModel", select_model, permission=LOAD_MODELS_NOW, touches_session=True),
    Route("SelectModelWS", select_model_ws, permission=LOAD_MODELS_NOW, touches_session=True),
)
