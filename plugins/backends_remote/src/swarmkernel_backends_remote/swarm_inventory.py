"""What another server of this API says that it has: backends and models. What is odd is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import attrs

from swarmkernel_backends_remote.answers import name, text, whole
from swarmkernel_models_api import CLASSES, COMPAT_CLASSES, Metadata, Model

SWARM: Final = "swarmswarmbackend"
MAX_BACKENDS: Final = 64
#: How many entries are looked at, whatever they are.
MAX_ENTRIES: Final = 1000
MAX_SLOTS: Final = 256
MAX_MODELS: Final = 5000
MAX_CHOICES: Final = 500
_CHOSEN: Final = ("sampler", "scheduler")
_TEXTS: Final = ("author", "description", "license", "date", "usage_hint", "trigger_phrase", "merged_from")
#: What servers that do not speak of it can do all the same: those that are not ours.
_SILENT: Final = ("init_image", "mask_image", "lora")
_COMING: Final = frozenset({"loading", "waiting"})


@attrs.frozen
class RemoteBackend:
    """A backend there. `loads`: it can load models. `coming`: it does not run yet. `via`: servers behind that one.

    `origin` is the same over whichever servers one gets to it.
    """

    id: int
    type: str
    title: str
    features: tuple[str, ...] = ()
    loads: bool = True
    slots: int = 1
    model: str | None = None
    via: tuple[str, ...] = ()
    coming: bool = False
    origin: str = ""

    @property
    def key(self) -> tuple[int, str, bool]:
        """What makes it another backend if it changes."""
        return self.id, self.type, self.loads


@attrs.frozen
class Inventory:
    """The backends of a server that may be used from here.

    `leads_back`: others of its backends would come back here. `is_renamed`: the server has another id by now, for none
    has a backend that leads through itself.
    """

    backends: tuple[RemoteBackend, ...]
    leads_back: bool
    is_renamed: bool


def read_backends(answer: Mapping[str, Any], own_id: str, server_id: str, *, forwarding: bool) -> Inventory:
    """The backends of a server that run or soon will, without those whose work would come back to this one."""
    entries = islice(answer.values(), MAX_ENTRIES)
    found = [backend for entry in entries if (backend := _backend(entry, server_id)) is not None]
    usable = (
        backend
        for backend in found
        if own_id not in backend.via
        and not _is_control(backend)
        and (forwarding or (backend.type != SWARM and not backend.via))
    )
    ways = {server for backend in found for server in backend.via}
    return Inventory(tuple(islice(usable, MAX_BACKENDS)), own_id in ways, server_id in ways)


def _is_control(backend: RemoteBackend) -> bool:
    """Whether it makes nothing itself. Before it runs it does not say so, and two servers must not wait for each other."""
    return backend.type == SWARM and not backend.via and (backend.coming or not backend.loads)


def _backend(entry: object, server_id: str) -> RemoteBackend | None:
    if not isinstance(entry, dict):
        return None
    number, status = whole(entry.get("id"), -(2**31), 2**31), entry.get("status")
    if number is None or not (status == "running" or status in _COMING):
        return None
    return RemoteBackend(
        number,
        text(entry.get("type"), 80),
        text(entry.get("title"), 200),
        (*_texts(entry.get("features"), 500), *(() if "via" in entry else _SILENT)),
        loads=entry.get("can_load_models") is not False,
        slots=whole(entry.get("max_usages", 1), 0, MAX_SLOTS) or 0,
        model=name(entry.get("current_model")),
        via=tuple(_texts(entry.get("via"), 32)),
        coming=status in _COMING,
        origin=_origin(entry) or f"{server_id}:{number}",
    )


def _origin(entry: Mapping[str, Any]) -> str:
    """Where a backend that stands for another server's says that its own is."""
    settings = entry.get("settings")
    return text(settings.get("origin"), 200) if entry.get("via") and isinstance(settings, dict) else ""


def _texts(value: object, most: int) -> Iterator[str]:
    for item in value[:most] if isinstance(value, list) else ():
        if found := text(item, 100):
            yield found


def read_options(answer: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What may be chosen for the parameters whose choices differ between servers."""
    params = answer.get("list")
    found = {}
    for param in params[:MAX_ENTRIES] if isinstance(params, list) else ():
        if isinstance(param, dict) and param.get("id") in _CHOSEN:
            found[param["id"]] = tuple(_texts(param.get("values"), MAX_CHOICES))
    return found


def read_models(kind: str, answer: Mapping[str, Any]) -> dict[str, Model]:
    """The models of a kind by name."""
    files = answer.get("files")
    entries = files[:MAX_MODELS] if isinstance(files, list) else []
    found = (_model(kind, entry) for entry in entries if isinstance(entry, dict))
    return {model.name: model for model in found if model is not None}


def _model(kind: str, entry: Mapping[str, Any]) -> Model | None:
    known_as = name(entry.get("name"))
    if known_as is None:
        return None
    if entry.get("is_supported_model_format") is False:
        return None
    known = CLASSES.get(text(entry.get("architecture")))
    compat = text(entry.get("compat_class"))
    return Model(
        known_as,
        kind,
        Path(),
        text(entry.get("title")) or known_as,
        class_id=known.id if known else None,
        compat_class=compat if compat in COMPAT_CLASSES else known.compat_class if known else None,
        standard_width=whole(entry.get("standard_width"), 0, 16384) or 0,
        standard_height=whole(entry.get("standard_height"), 0, 16384) or 0,
        metadata=_metadata(entry),
        created=whole(entry.get("time_created"), 0, 2**53) or 0,
        modified=whole(entry.get("time_modified"), 0, 2**53) or 0,
        stamp="0" * 8,
        is_local=False,
    )


def _metadata(entry: Mapping[str, Any]) -> Metadata:
    said: dict[str, Any] = {key: text(entry.get(key), 2000) or None for key in _TEXTS}
    return Metadata(
        **said,
        prediction_type=text(entry.get("prediction_type"), 40) or None,
        tags=tuple(_texts(entry.get("tags"), 50)) or None,
        resolution=text(entry.get("resolution"), 20) or "0x0",
        is_negative_embedding=entry.get("is_negative_embedding") is True,
    )
