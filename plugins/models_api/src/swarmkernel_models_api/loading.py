"""Having a backend load a model: once, however many wait for it."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import Final

import attrs

from swarmkernel_backend_api import BackendError, BackendSlot, WorkerLostError
from swarmkernel_models_api.capability import LOAD_MODEL, Loaded, LoadModel, LoadProgress
from swarmkernel_models_api.errors import ModelLoadError
from swarmkernel_models_api.types import Model

log = logging.getLogger(__name__)

#: How long a failed load is not tried again, in seconds.
FAILURE_SECONDS: Final = 30.0


@attrs.frozen
class _Wanted:
    """A load, and the state of the file that it is about."""

    request: LoadModel
    stamp: str


@attrs.frozen
class _Load:
    """A load that runs."""

    wanted: _Wanted
    task: asyncio.Task[None]


@attrs.frozen
class _Failure:
    """A load that failed a short while ago."""

    text: str
    at: float

    @property
    def counts(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() - self.at < FAILURE_SECONDS


@attrs.define(eq=False)
class Loads:
    """The loads that run, those that succeeded last, and those that failed lately."""

    _running: dict[BackendSlot, _Load] = attrs.field(factory=dict, init=False)
    _held: dict[BackendSlot, _Wanted] = attrs.field(factory=dict, init=False)
    _failed: dict[tuple[BackendSlot, _Wanted], _Failure] = attrs.field(factory=dict, init=False)

    async def load(self, slot: BackendSlot, model: Model, vae: Model | None = None) -> None:
        """Return once *slot* holds *model* (and *vae*, if one is given).

        Who asks for what is being loaded waits for that load; who gives up waiting does not end it. Raises
        ModelLoadError with a text for the user, for 30 seconds without trying again; WorkerLostError if the backend
        dies, which is no fault of the model's.
        """
        wanted = _wanted(model, vae)
        while running := self._running.get(slot):
            if running.wanted == wanted:
                return await asyncio.shield(running.task)
            await asyncio.wait({running.task})
        if self.holds(slot, model, vae):
            return None
        self._check_usable(slot, wanted, model)
        task = asyncio.create_task(self._load(slot, wanted))
        self._running[slot] = _Load(wanted, task)
        task.add_done_callback(lambda done: self._finished(slot, done))
        return await asyncio.shield(task)

    def holds(self, slot: BackendSlot, model: Model, vae: Model | None = None) -> bool:
        """Whether *slot* holds the model as it is on disk now."""
        return slot.current_model == model.name and self._held.get(slot) == _wanted(model, vae)

    async def close(self) -> None:
        """Interrupt what runs and wait until it has ended."""
        tasks = [load.task for load in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check_usable(self, slot: BackendSlot, wanted: _Wanted, model: Model) -> None:
        if model.problem:
            raise ModelLoadError(f"{model.name}: {model.problem}")
        failure = self._failed.get((slot, wanted))
        if failure and failure.counts:
            raise ModelLoadError(failure.text)

    async def _load(self, slot: BackendSlot, wanted: _Wanted) -> None:
        slot.current_model = None
        self._held.pop(slot, None)
        self._failed = {key: failure for key, failure in self._failed.items() if failure.counts}
        try:
            await _invoke(slot, wanted.request)
        except WorkerLostError:
            raise
        except BackendError as exc:
            text = f"{slot.label} could not load {wanted.request.name}: {exc.text}"
            self._failed[slot, wanted] = _Failure(text, time.monotonic())
            raise ModelLoadError(text) from exc
        slot.current_model = wanted.request.name
        self._held[slot] = wanted

    def _finished(self, slot: BackendSlot, task: asyncio.Task[None]) -> None:
        self._running.pop(slot, None)
        slot.changed()
        if not task.cancelled() and (error := task.exception()):
            log.warning("%s", error)


def _wanted(model: Model, vae: Model | None) -> _Wanted:
    return _Wanted(load_request(model, vae), model.stamp + (vae.stamp if vae else ""))


def load_request(model: Model, vae: Model | None = None) -> LoadModel:
    """What a backend is told about a model."""
    return LoadModel(
        name=model.name,
        path=str(model.path) if model.is_local else "",
        compat_class=model.compat_class,
        class_id=model.class_id,
        prediction_type=model.metadata.prediction_type,
        vae_path=str(vae.path) if vae else None,
    )


async def _invoke(slot: BackendSlot, request: LoadModel) -> None:
    async with aclosing(slot.invoke(LOAD_MODEL, request)) as replies:
        async for reply in replies:
            match reply:
                case Loaded():
                    return
                case LoadProgress():
                    log.debug("%s: %s (%.0f %%)", slot.label, reply.text, 100 * reply.fraction)
    raise BackendError("it ended without saying that the model is loaded")
