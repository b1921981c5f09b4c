"""What the first-run installation does about models: it fetches them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from swarmkernel import RouteError, Services
from swarmkernel_models_api.errors import FetchError
from swarmkernel_models_api.fetch import fetch
from swarmkernel_models_api.known import NOT_RUN, STARTER, KnownModel, known_models
from swarmkernel_models_api.models import Models
from swarmkernel_models_api.settings import ModelsSettings
from swarmkernel_models_api.types import MAIN

Frames = AsyncIterator[Mapping[str, Any]]


def steps(services: Services, wanted: Iterable[str]) -> list[tuple[str, Frames]]:
    """A step for each of the models *wanted* (ids) that is known; RouteError for one that cannot be."""
    models = services.get(Models)
    known = known_models(services.get(ModelsSettings).sources)
    found = (_step(models, known, model_id) for model_id in wanted)
    return [step for step in found if step is not None]


def _step(models: Models, known: Mapping[str, KnownModel], model_id: str) -> tuple[str, Frames] | None:
    """The step of one model, or None for one that may be another plugin's."""
    if model_id == STARTER:
        _require_starter(models)
        return "The starter model", _starter()
    if model_id in NOT_RUN:
        there_are = ", ".join((*known, STARTER))
        raise RouteError(f"No backend of this server runs the model {model_id}; there are {there_are}.")
    model = known.get(model_id)
    if model is None:
        return None
    return model.title, _fetched(models, model, _folder(models) / model.path)


def _require_starter(models: Models) -> None:
    if models.get(STARTER) is None:
        raise RouteError(
            "The starter model is not installed; install the package swarmkernel-starter-model, "
            "or choose another model or none."
        )


def _folder(models: Models) -> Path:
    for folder in models.folders:
        if folder.kind == MAIN and not folder.read_only:
            return folder.path
    raise RouteError("No model folder of this server may be written to.")


async def _starter() -> Frames:
    yield {"info": "The starter model came with this server."}


async def _fetched(models: Models, model: KnownModel, target: Path) -> Frames:
    """Fetch the model unless it is there; RouteError if that fails."""
    if await asyncio.to_thread(target.exists):
        yield {"info": f"{model.title} is there already."}
        return
    yield {"info": f"Fetching {model.title}."}
    try:
        async with aclosing(
            fetch(model.source, target, problem_of=models.reader.header_problem)
        ) as progresses:
            async for progress in progresses:
                yield {
                    "progress": progress.done,
                    "total": progress.total,
                    "per_second": progress.per_second,
                }
    except FetchError as exc:
        raise RouteError(f"{model.title} could not be fetched. {exc}") from exc
    await models.refresh()
    yield {"info": f"{model.title} is ready."}
