"""Which job goes to which backend, and which backend loads which model: decided on plain values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import attrs

from swarmkernel_models_api import form_misfit, stem
from swarmkernel_t2i_api.jobs.job import Demand, Job
from swarmkernel_t2i_api.jobs.queue import LOAD_COST, FairQueue
from swarmkernel_t2i_api.params.request import MAIN


@attrs.define
class Place:
    """A backend as the decision sees it. `loader`: it can load models. `coming`: it does not run yet but may soon.

    `idle_for` is how many seconds ago it was last used. `models` are by kind the names of those that it has, without
    `.safetensors`; None: whatever this server has. `options` are by parameter the values that it says it takes.
    """

    id: int
    type_id: str
    model: str | None = None
    usages: int = 0
    max_usages: int = 1
    loader: bool = True
    coming: bool = False
    features: frozenset[str] = frozenset()
    compat_classes: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    models: Mapping[str, frozenset[str]] | None = None
    options: Mapping[str, Collection[str]] = attrs.Factory(dict)
    parent_id: int | None = None
    idle_for: float = 0.0
    title: str = ""

    @property
    def free(self) -> bool:
        """Whether one more job fits."""
        return not self.coming and self.usages < self.max_usages


@attrs.define
class Loads:
    """What is known of loading models. All times are monotonic seconds.

    `active`: the model that a place is loading now. `failed`: when and why a place could not load a model.
    `since`: when a place got its model. `reserved`: the demand for which a place takes no other work.
    """

    retry: float = 30.0
    active: dict[int, str] = attrs.field(factory=dict)
    failed: dict[tuple[int, str], tuple[float, str]] = attrs.field(factory=dict)
    since: dict[int, float] = attrs.field(factory=dict)
    reserved: dict[int, Demand] = attrs.field(factory=dict)

    def failure(self, place: Place, model: str | None, now: float) -> str | None:
        """Why a place need not try to load a model again yet."""
        when, reason = self.failed.get((place.id, model or ""), (-self.retry, ""))
        return reason if now - when < self.retry else None

    def loading(self, model: str | None, places: Iterable[Place]) -> bool:
        """Whether one of the places is loading the model."""
        return any(self.active.get(place.id) == model for place in places)


@attrs.frozen
class Plan:
    """What to do now: jobs to run, models to load for a job, and demands that nobody can serve with the reasons."""

    runs: list[tuple[Job, int]] = attrs.field(factory=list)
    loads: list[tuple[Job, int]] = attrs.field(factory=list)
    refusals: dict[Demand, list[str]] = attrs.field(factory=dict)


def refusal(place: Place, demand: Demand) -> str | None:
    """Why a place does not fit a demand; None if it does."""
    if demand.backend_type not in (None, place.type_id.lower()):
        return "wrong backend type"
    if demand.backend_id not in (None, str(place.id), str(place.parent_id)):
        return "wrong backend id"
    missing = sorted(demand.features - place.features)
    if missing:
        return f"missing feature {', '.join(missing)}"
    for param, value in sorted(demand.choices):
        if value not in place.options.get(param, ()):
            return f"does not take {value} as {param}"
    return _model_refusal(place, demand) if demand.model is not None and place.loader else None


def _model_refusal(place: Place, demand: Demand) -> str | None:
    if not _has(place, MAIN, demand.model or "", local=demand.local):
        return f"does not have the model {demand.model}"
    for addon in sorted(demand.addons):
        if not _has(place, addon.kind, addon.name, local=addon.local):
            return f"does not have the {addon.kind} {addon.name}"
    if place.compat_classes and demand.compat_class not in place.compat_classes:
        return f"cannot load models of class {demand.compat_class or 'unknown'}, such as {demand.model}"
    return form_misfit(place.formats, demand.forms)


def _has(place: Place, kind: str, name: str, *, local: bool) -> bool:
    return local if place.models is None else stem(name) in place.models.get(kind, ())


def fitting(places: Iterable[Place], demand: Demand) -> list[Place]:
    """The places that fit a demand.

    A place that cannot load models makes what it makes, whatever the model. So it serves jobs without a model, jobs
    whose user chose the backend, and jobs whose model the server chose and no other place can load.
    """
    fit = [place for place in places if refusal(place, demand) is None]
    loaders = [place for place in fit if place.loader]
    if demand.model is None or demand.backend_id is not None or demand.backend_type is not None:
        return fit
    return loaders or ([] if demand.model_named else fit)


def refusals(places: Iterable[Place], demand: Demand) -> list[str]:
    """The distinct reasons why no place fits."""
    reasons = (refusal(place, demand) or "cannot load models" for place in places)
    return list(dict.fromkeys(reasons))


@attrs.define
class Planner:
    """Decides. `residency` and `load_delay` are seconds, as in the settings."""

    queue: FairQueue
    loads: Loads
    residency: float = 10.0
    load_delay: float = 1.5

    def plan(self, places: list[Place], now: float) -> Plan:
        """What to do now. The queue is changed as if it were done; `places` likewise."""
        plan = Plan()
        fits = {demand: fitting(places, demand) for demand in self.queue.demands()}
        for demand, fit in fits.items():
            reasons = self._hopeless(demand, fit, places, now)
            if reasons is not None:
                plan.refusals[demand] = reasons
        for place_id, demand in list(self.loads.reserved.items()):
            if demand not in fits or self._held_elsewhere(place_id, demand, fits[demand]):
                del self.loads.reserved[place_id]
        plan.runs.extend(self._warm(fits))
        for job in self._first_of_each_demand():
            place = None if job.demand in plan.refusals else self._to_load(job, fits, now)
            if place is not None:
                self._start_load(place, job)
                plan.loads.append((job, place.id))
        return plan

    def _first_of_each_demand(self) -> list[Job]:
        found: dict[Demand, Job] = {}
        for job in self.queue.heads():
            found.setdefault(job.demand, job)
        return list(found.values())

    def _hopeless(
        self, demand: Demand, fit: list[Place], places: list[Place], now: float
    ) -> list[str] | None:
        if not fit:
            return None if any(place.coming for place in places) else refusals(places, demand)
        failures = [self._failure(place, demand, now) for place in fit]
        return None if None in failures else list(dict.fromkeys(filter(None, failures)))

    def _failure(self, place: Place, demand: Demand, now: float) -> str | None:
        if place.coming or not place.loader or place.model == demand.model:
            return None
        return self.loads.failure(place, demand.model, now)

    def _held_elsewhere(self, place_id: int, demand: Demand, fit: list[Place]) -> bool:
        others = [place for place in fit if place.id != place_id]
        return any(p.model == demand.model for p in others) or self.loads.loading(demand.model, others)

    def _warm(self, fits: dict[Demand, list[Place]]) -> Iterator[tuple[Job, int]]:
        """Jobs for places that have their model already, one at a time since each changes whose turn it is."""
        while True:
            warm = {demand: self._warm_place(demand, fit) for demand, fit in fits.items()}
            ready = {demand: place for demand, place in warm.items() if place is not None}
            job = next((job for job in self.queue.heads() if job.demand in ready), None) if ready else None
            if job is None:
                return
            place = ready[job.demand]
            self.queue.take(job)
            place.usages += 1
            yield job, place.id

    def _warm_place(self, demand: Demand, fit: list[Place]) -> Place | None:
        ready = (place for place in fit if place.free and self._is_warm(place, demand))
        return min(ready, key=lambda place: place.usages / place.max_usages, default=None)

    def _is_warm(self, place: Place, demand: Demand) -> bool:
        if place.id in self.loads.active or self.loads.reserved.get(place.id, demand) != demand:
            return False
        return not place.loader or demand.model is None or place.model == demand.model

    def _to_load(self, job: Job, fits: dict[Demand, list[Place]], now: float) -> Place | None:
        """The place that should load this job's model now; if one is busy, it may be reserved instead."""
        demand, fit = job.demand, fits[job.demand]
        if demand.model is None or self.loads.loading(demand.model, fit):
            return None
        held = any(place.model == demand.model for place in fit if not place.coming)
        if held and now - job.queued_at < self.load_delay:
            return None
        able = [place for place in fit if self._may_load(place, demand, now)]
        idle = [place for place in able if not place.usages]
        if idle:
            return max(
                idle,
                key=lambda place: (self._is_reserved_for(place, demand), place.model is None, place.idle_for),
            )
        if not held and not any(self._is_reserved_for(place, demand) for place in fit):
            self._reserve(job, able, now)
        return None

    def _may_load(self, place: Place, demand: Demand, now: float) -> bool:
        return (
            place.loader
            and not place.coming
            and place.model != demand.model
            and place.id not in self.loads.active
            and self.loads.reserved.get(place.id, demand) == demand
            and self.loads.failure(place, demand.model, now) is None
        )

    def _is_reserved_for(self, place: Place, demand: Demand) -> bool:
        return self.loads.reserved.get(place.id) == demand

    def _reserve(self, job: Job, able: list[Place], now: float) -> None:
        """Let a busy place run dry for this job, if its model had its time and the job's turn has come."""
        before = {head.demand.model for head in _until(self.queue.heads(), job)}
        ripe = [
            place
            for place in able
            if now - self.loads.since.get(place.id, now - self.residency) >= self.residency
            and place.model not in before
        ]
        if ripe:
            self.loads.reserved[min(ripe, key=lambda place: place.usages).id] = job.demand

    def _start_load(self, place: Place, job: Job) -> None:
        self.loads.reserved.pop(place.id, None)
        self.loads.active[place.id] = job.demand.model or ""
        self.queue.charge(job.user_id, LOAD_COST)


def _until(jobs: Iterable[Job], last: Job) -> Iterator[Job]:
    for job in jobs:
        if job is last:
            return
        yield job
