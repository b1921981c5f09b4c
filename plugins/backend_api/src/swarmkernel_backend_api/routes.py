"""The eight routes about backends."""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

from swarmkernel import Body, Call, Route, RouteError
from swarmkernel_backend_api.backends import Backends
from swarmkernel_backend_api.errors import BackendError
from swarmkernel_backend_api.forms import form, hide, masked
from swarmkernel_backend_api.permissions import (
    ADD_REMOVE_BACKENDS,
    CONTROL_MEM_CLEAN,
    EDIT_BACKENDS,
    RESTART_BACKENDS,
    TOGGLE_BACKENDS,
    VIEW_BACKENDS_LIST,
)
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.slot import BackendSlot, since


@contextmanager
def _changing(call: Call) -> Iterator[Backends]:
    """The backends, for a change: refused while the server is locked or stopping, and with the reason if it is no good."""
    if call.get(BackendApiSettings).lock_settings:
        raise RouteError(
            "Settings are locked on this server; backends cannot be changed.", error_id="settings_locked"
        )
    backends = call.get(Backends)
    if backends.closing:
        raise RouteError("The server is stopping.", error_id="shutting_down")
    try:
        yield backends
    except BackendError as error:
        raise RouteError(error.text, error_id=error.error_id) from error


async def list_backend_types(call: Call) -> dict[str, object]:
    """List the backend types that can be added, each with the form of its settings."""
    return {
        "list": [
            {
                "id": kind.id,
                "name": kind.name,
                "description": kind.description,
                "settings": [field.entry() for field in form(kind.settings)],
                "is_standard": kind.is_standard,
            }
            for kind in call.get(Backends).types.values()
        ]
    }


async def list_backends(call: Call, nonreal: bool = False, full_data: bool = False) -> dict[str, object]:
    """List the backends: a map from the id, as text, to the backend. ``reason`` says why one does not run, if it is known.

    * ``nonreal``: also temporary backends, which have negative ids.
    * ``full_data``: also the model that each has loaded, and the ids of the servers that its work goes through.
    """
    return {str(s.id): _shown(s, full_data) for s in call.get(Backends) if s.real or nonreal}


async def add_new_backend(call: Call, type_id: str) -> dict[str, object]:
    """Add a backend of a type, with default settings, and start it. Returns the backend.

    * ``type_id``: an id of ``ListBackendTypes``.
    """
    with _changing(call) as backends:
        return await backends.finish(_then_shown(backends.add(type_id)))


async def delete_backend(call: Call, backend_id: int) -> dict[str, object]:
    """Delete a backend. It takes no new work at once, and ends when its running work has, or a time limit has passed.

    * ``backend_id``: the backend's id.
    """
    with _changing(call) as backends:
        return {
            "result": "Deleted."
            if await backends.finish(backends.delete(backend_id))
            else "Already didn't exist."
        }


async def toggle_backend(call: Call, backend_id: int, enabled: bool) -> dict[str, object]:
    """Switch a backend on or off.

    * ``backend_id``: the backend's id.
    * ``enabled``: whether it shall run.
    """
    with _changing(call) as backends:
        return {
            "result": "Success."
            if await backends.finish(backends.toggle(backend_id, enabled=enabled))
            else "No change."
        }


async def edit_backend(
    call: Call, backend_id: int, title: str, raw_inp: Body, new_id: int = -1
) -> dict[str, object]:
    """Change a backend and restart it. Nothing changes unless all values are valid. Returns the backend.

    The body's ``settings`` is an object from setting names to values; names left out keep their value, unknown ones are
    ignored, and a secret may be sent back as it was shown.

    * ``backend_id``: the backend's id.
    * ``title``: the new title; empty for the type's name.
    * ``new_id``: a new id for it; negative for the same.
    """
    settings = raw_inp.get("settings")
    with _changing(call) as backends:
        if not isinstance(settings, dict):
            raise RouteError(
                "'settings' must be an object from setting names to values.", error_id="invalid_parameter"
            )
        wanted = None if new_id < 0 or new_id == backend_id else new_id
        edit = backends.edit(backend_id, settings, title=title, new_id=wanted)
        return await backends.finish(_then_shown(edit))


async def restart_backends(call: Call, backend: str = "all") -> dict[str, object]:
    """Restart backends that run or have given up.

    * ``backend``: a backend's id, or ``all``.
    """
    with _changing(call) as backends:
        if not backend.removeprefix("-").isdecimal() and backend != "all":
            raise RouteError(
                f"'backend' must be an id or 'all', not {backend!r:.80}.", error_id="invalid_parameter"
            )
        return {
            "result": "Success.",
            "count": await backends.finish(backends.restart(_chosen(backends, backend))),
        }


async def free_backend_memory(
    call: Call, system_ram: bool = False, backend: str = "all"
) -> dict[str, object]:
    """Ask running backends to free memory; ``count`` is how many did.

    * ``system_ram``: also the memory of the host, and not only of the device.
    * ``backend``: a backend's id, or ``all``.
    """
    backends = call.get(Backends)
    targets = [slot for slot in _chosen(backends, backend) if slot.serving]
    return {"result": bool(targets), "count": await backends.free_memory(targets, system_ram=system_ram)}


async def _then_shown(change: Awaitable[BackendSlot]) -> dict[str, object]:
    """The backend as it is right after a change, before its start goes on."""
    return _shown(await change)


def _chosen(backends: Backends, backend: str) -> list[BackendSlot]:
    return [slot for slot in backends if backend in {"all", str(slot.id)}]


def _shown(slot: BackendSlot, full_data: bool = False) -> dict[str, object]:
    seconds = slot.seconds_since_used
    shown: dict[str, object] = {
        "id": slot.id,
        "type": slot.type.id,
        "status": slot.status.value,
        "reason": _reason(slot),
        "settings": {} if slot.settings is None else masked(slot.settings),
        "modcount": slot.modcount,
        "features": slot.features,
        "enabled": slot.enabled,
        "title": slot.title,
        "max_usages": slot.max_usages,
        "seconds_since_used": int(seconds or 0),
        "time_since_used": since(seconds),
        "can_load_models": slot.can_load_models,
    }
    return shown | ({"current_model": slot.current_model, "via": list(slot.via)} if full_data else {})


def _reason(slot: BackendSlot) -> str:
    """Why a backend does not run, without its secrets."""
    return slot.reason if slot.settings is None else hide(slot.reason, slot.settings)


ROUTES = (
    Route(
        "AddNewBackend",
        add_new_backend,
        permission=ADD_REMOVE_BACKENDS,
        touches_session=True,
        audit=("type_id",),
    ),
    Route(
        "DeleteBackend",
        delete_backend,
        permission=ADD_REMOVE_BACKENDS,
        touches_session=True,
        audit=("backend_id",),
    ),
    Route(
        "EditBackend",
        edit_backend,
        permission=EDIT_BACKENDS,
        touches_session=True,
        audit=("backend_id", "title", "new_id"),
    ),
    Route(
        "FreeBackendMemory",
        free_backend_memory,
        permission=CONTROL_MEM_CLEAN,
        touches_session=True,
        audit=("backend",),
    ),
    Route("ListBackendTypes", list_backend_types, permission=VIEW_BACKENDS_LIST),
    Route("ListBackends", list_backends, permission=VIEW_BACKENDS_LIST),
    Route(
        "RestartBackends",
        restart_backends,
        permission=RESTART_BACKENDS,
        touches_session=True,
        audit=("backend",),
    ),
    Route(
        "ToggleBackend",
        toggle_backend,
        permission=TOGGLE_BACKENDS,
        touches_session=True,
        audit=("backend_id", "enabled"),
    ),
)
