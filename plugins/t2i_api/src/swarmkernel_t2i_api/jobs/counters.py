"""Keeps the four counters of each session in step with its jobs: a listener of the bus."""

from __future__ import annotations

import attrs

from swarmkernel_backend_api import Claim, Claims
from swarmkernel_t2i_api.jobs.events import (
    Accepted,
    Done,
    Event,
    Failed,
    Interrupted,
    LoadingModel,
    PictureMade,
    Started,
    Waiting,
)
from swarmkernel_t2i_api.jobs.job import Job
from swarmkernel_t2i_api.params.request import ImageRequest


@attrs.define(eq=False)
class Counters:
    """Turns events into claims: `waiting_gens` until a picture ends, and what it does meanwhile."""

    claims: Claims
    _claims: dict[ImageRequest, Claim] = attrs.field(factory=dict, init=False)
    _loads: dict[Job, Claim] = attrs.field(factory=dict, init=False)
    _live: set[Job] = attrs.field(factory=set, init=False)

    def __call__(self, event: Event) -> None:
        """Count one event."""
        match event:
            case Accepted(request):
                self._claims[request] = self.claims.open(request.session_id, waiting_gens=request.count)
            case Waiting(job):
                self._leave(job)
                self._claims[job.request].change(waiting_backends=1)
            case Started(job):
                self._live.add(job)
                self._claims[job.request].change(waiting_backends=-1, live_gens=1)
            case LoadingModel(job, done):
                self._load(job, done=done)
            case PictureMade(job) | Failed(job) | Interrupted(job):
                self._end(job)
            case Done(request):
                self._claims.pop(request).close()

    def _leave(self, job: Job) -> None:
        if job in self._live:
            self._live.remove(job)
            self._claims[job.request].change(live_gens=-1)

    def _end(self, job: Job) -> None:
        claim = self._claims[job.request]
        if job in self._live:
            self._live.remove(job)
            claim.change(live_gens=-1, waiting_gens=-1)
        else:
            claim.change(waiting_backends=-1, waiting_gens=-1)

    def _load(self, job: Job, *, done: bool) -> None:
        if done:
            self._loads.pop(job).close()
        else:
            self._loads[job] = self.claims.open(job.request.session_id, loading_models=1)
