"""Loading a model onto backends because somebody asked for it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Final

from swarmkernel import Call, RouteError
from swarmkernel_backend_api import Backends, BackendSlot, Claims, WorkerLostError
from swarmkernel_models_api.errors import ModelLoadError
from swarmkernel_models_api.forms import form_misfit
from swarmkernel_models_api.models import Models
from swarmkernel_models_api.remote import has_model
from swarmkernel_models_api.types import Model

#: How long a load waits for a backend's other work, in seconds.
PATIENCE: Final = 600.0


async def select(call: Call, model: Model, backend_id: str | None = None) -> None:
    """Load *model* onto the backend of that id, or onto every one that can; RouteError if none did.

    The caller's session counts the loads while they run.
    """
    slots = _chosen(call.get(Backends), model, backend_id)
    with call.get(Claims).open(call.session.id, loading_models=len(slots)) as claim:
        failures = []
        for load in asyncio.as_completed([_load(call, slot, model) for slot in slots]):
            failures.append(await load)
            claim.change(loading_models=-1)
    if None not in failures:
        raise RouteError(" ".join(filter(None, failures)), error_id="model_load_failed")


def _chosen(backends: Backends, model: Model, backend_id: str | None) -> list[BackendSlot]:
    able = [slot for slot in backends if slot.usable and slot.can_load_models]
    if backend_id is not None:
        able = [slot for slot in able if str(slot.id) == backend_id.strip()]
        if not able:
            raise RouteError(f"There is no running backend {backend_id[:40]!r} that can load models.")
    if not able:
        raise RouteError("No backend that can load models is running.")
    holders = [slot for slot in able if has_model(slot, model)]
    if not holders:
        raise RouteError(f"No running backend has {model.name}.")
    fitting = [
        slot
        for slot in holders
        if not slot.type.compat_classes or model.compat_class in slot.type.compat_classes
    ]
    if not fitting:
        raise RouteError(f"No running backend can load models of the class {model.class_id or 'unknown'}.")
    misfits = [form_misfit(slot.type.formats, model.forms) for slot in fitting]
    if None not in misfits:
        raise RouteError(f"No running backend can load {model.name}: {misfits[0]}.")
    return [slot for slot, misfit in zip(fitting, misfits, strict=True) if misfit is None]


async def _load(call: Call, slot: BackendSlot, model: Model) -> str | None:
    """Why the load failed, or None."""
    models = call.get(Models)
    if models.holds(slot, model):
        return None
    try:
        async with asyncio.timeout(PATIENCE):
            await _all_work_done(call.get(Backends), slot)
    except TimeoutError:
        return f"{slot.label} is still busy."
    if not slot.usable:
        return f"{slot.label} has stopped."
    try:
        with ExitStack() as claims:
            for _ in range(slot.max_usages):
                claims.enter_context(slot.claim())
            await models.load_model(slot, model)
    except (ModelLoadError, WorkerLostError) as exc:
        return str(exc)
    return None


async def _all_work_done(backends: Backends, slot: BackendSlot) -> None:
    while slot.usages and slot.usable:
        await backends.changed()
