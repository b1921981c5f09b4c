"""`ListModels`: which part of all models a client sees, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from swarmkernel_models_api.types import Model

#: At most so many models and folders are listed.
MAX_LISTED: Final = 5000
MAX_DEPTH: Final = 20

SORTS: Final[Mapping[str, Callable[[Model], Any]]] = MappingProxyType(
    {
        "name": lambda model: model.name.lower(),
        "title": lambda model: (model.title.lower(), model.name.lower()),
        "datecreated": lambda model: (-model.created, model.name.lower()),
        "datemodified": lambda model: (-model.modified, model.name.lower()),
    }
)


@attrs.frozen
class Listing:
    """Folders relative to the path that was asked for, and the models."""

    folders: list[str]
    models: list[Model]


def list_below(models: Iterable[Model], path: str, depth: int, sort: str, *, reverse: bool) -> Listing:
    """The models below the folder *path* at most *depth* (1 to 20) levels deep, and every folder down to there.

    *sort* is a key of `SORTS`; dates are newest first, and *reverse* turns any order round.
    """
    depth = max(1, min(depth, MAX_DEPTH))
    path = "/".join(part for part in path.replace("\\", "/").split("/") if part)
    prefix = f"{path}/" if path else ""
    folders: set[str] = set()
    shown: list[Model] = []
    for model in models:
        if not model.name.startswith(prefix):
            continue
        *above, _ = model.name[len(prefix) :].split("/")
        folders.update("/".join(above[:level]) for level in range(1, min(len(above), depth) + 1))
        if len(above) < depth:
            shown.append(model)
    shown.sort(key=SORTS[sort], reverse=reverse)
    return Listing(sorted(folders, key=str.lower)[:MAX_LISTED], shown[:MAX_LISTED])
