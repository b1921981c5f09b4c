"""The backend of a first-run installation: what a server starts with."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, TypeAlias

from swarmkernel import Plugins, RouteError, Services
from swarmkernel_backend_api.backends import Backends
from swarmkernel_backend_api.errors import BackendError
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.slot import BackendSlot
from swarmkernel_backend_api.types import NewBackend

NONE: Final = "none"
"""The word of clients for no backend on this machine."""
USUAL: Final = "comfyui"
"""Their word for a backend on this machine, whatever its type is here."""

Step: TypeAlias = tuple[str, AsyncIterator[Mapping[str, Any]]]


def steps(services: Services, wanted: str) -> list[Step]:
    """What there is to do for this choice of a backend; ``RouteError`` if there is no such choice."""
    backends = services.get(Backends)
    choices = (NONE, USUAL, *backends.types)
    if wanted not in choices:
        raise RouteError(
            f"There is no backend {wanted!r:.80} to choose; there are {', '.join(choices)}.",
            error_id="unknown_backend_type",
        )
    proposed = [
        new for found in services.get(Plugins).gather("backend_defaults", services=services) for new in found
    ]
    real = [slot for slot in backends if slot.real]
    if wanted == NONE:
        found = [
            _remove(backends, slot) for slot in real if any(_is_made_from(slot, new) for new in proposed)
        ]
    elif wanted == USUAL:
        found = [
            _add(backends, new) for new in proposed if not any(_is_made_from(slot, new) for slot in real)
        ]
    else:
        found = [] if any(slot.type.id == wanted for slot in real) else [_add(backends, NewBackend(wanted))]
    if found and services.get(BackendApiSettings).lock_settings:
        raise RouteError(
            "Settings are locked on this server; backends cannot be changed.", error_id="settings_locked"
        )
    return found


def _is_made_from(slot: BackendSlot, new: NewBackend) -> bool:
    return (slot.type.id, slot.title) == (new.type_id, new.title)


def _add(backends: Backends, new: NewBackend) -> Step:
    async def adding() -> AsyncIterator[Mapping[str, Any]]:
        try:
            slot = await backends.finish(backends.add(new.type_id, new.settings, new.title))
        except BackendError as error:
            raise RouteError(error.text, error_id=error.error_id) from None
        yield {"info": f"Added {slot.label}."}

    return f"Add a backend of the type {new.type_id}", adding()


def _remove(backends: Backends, slot: BackendSlot) -> Step:
    async def removing() -> AsyncIterator[Mapping[str, Any]]:
        await backends.finish(backends.delete(slot.id))
        yield {"info": f"Removed {slot.label}."}

    return f"Remove {slot.label}", removing()
