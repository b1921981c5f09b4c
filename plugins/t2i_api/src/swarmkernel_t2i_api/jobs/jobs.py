"""The jobs of this server: queued, given to backends, interrupted, ended. Each ends exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial

import attrs

from swarmkernel_backend_api import (
    BackendError,
    Backends,
    BackendSlot,
    Status,
    WorkerLostError,
    backend_status,
)
from swarmkernel_models_api import Model, ModelError, Models
from swarmkernel_t2i_api.capability import GENERATE
from swarmkernel_t2i_api.errors import (
    LimitError,
    NoBackendError,
    QueueTimeoutError,
    ShuttingDownError,
    StalledError,
    T2IError,
)
from swarmkernel_t2i_api.jobs.events import (
    Accepted,
    Done,
    Events,
    Failed,
    Forwarded,
    Interrupted,
    JobEvent,
    LoadingModel,
    PictureMade,
    Previewed,
    Started,
    Stepped,
    Waiting,
)
from swarmkernel_t2i_api.jobs.job import Demand, Job, JobState
from swarmkernel_t2i_api.jobs.pictures import Pictures
from swarmkernel_t2i_api.jobs.placement import Loads, Place, Planner
from swarmkernel_t2i_api.jobs.queue import FairQueue
from swarmkernel_t2i_api.limits import UserLimits
from swarmkernel_t2i_api.outputs.errors import OutputError
from swarmkernel_t2i_api.params.request import ImageRequest, check_pictures
from swarmkernel_t2i_api.settings import T2ISettings
from swarmkernel_t2i_api.types import EncodedOutput, EncodedPreview, Progress, RawFrame

log = logging.getLogger(__name__)

#: While jobs wait, time alone may change what can be done: a model has stayed long enough, a failure is old.
LOOK_AGAIN_SECONDS = 0.5
#: How many backends may die over one job before the job is given up.
ATTEMPTS = 2


@attrs.define(eq=False)
class Jobs:
    """The service that turns requests into pictures. `run` must be running.

    `_told` has, for each model that is loading, one job of every session that was told so. `_losses` counts the
    workers that died over loading a model.
    """

    backends: Backends
    models: Models
    events: Events
    pictures: Pictures
    limits: UserLimits
    queue: FairQueue = attrs.field(init=False)
    loads: Loads = attrs.field(init=False)
    _planner: Planner = attrs.field(init=False)
    _open: dict[ImageRequest, set[Job]] = attrs.field(factory=dict, init=False)
    _losses: dict[tuple[int, str], int] = attrs.field(factory=dict, init=False)
    _told: dict[str, dict[str, Job]] = attrs.field(factory=dict, init=False)
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)
    _closing: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.queue = FairQueue(self.limits.simultaneous)
        self.loads = Loads(self.settings.load_retry)
        self._planner = Planner(
            self.queue, self.loads, self.settings.model_residency, self.settings.load_delay
        )

    @property
    def settings(self) -> T2ISettings:
        """The operator's settings."""
        return self.limits.settings

    def submit(self, request: ImageRequest, offset: int = 0) -> list[Job]:
        """Put a request's jobs into the queue; their indices count from *offset*. Raises LimitError or ShuttingDownError."""
        if self._closing:
            raise ShuttingDownError("The server is shutting down.")
        room = self.settings.max_queued - self.queue.waiting(request.user_id)
        if request.count > room:
            raise LimitError(
                f"You have {self.settings.max_queued - room} pictures waiting and ask for {request.count} more; "
                f"at most {self.settings.max_queued} may wait."
            )
        check_pictures(request, self._open)
        demand, now = Demand.of(request), time.monotonic()
        places = ((batch, item) for batch in range(request.images) for item in range(request.batch_size))
        jobs = [
            Job(request, demand, batch, item, offset + batch * request.batch_size + item, now)
            for batch, item in places
        ]
        self._open[request] = set(jobs)
        self.events.publish(Accepted(request))
        for job in jobs:
            self.queue.add(job)
            self.events.publish(Waiting(job))
        self._tell_loading(jobs[0])
        self.backends.notify()
        return jobs

    def interrupt(self, session_id: str | None, user_id: str) -> None:
        """Stop everything that a session asked for so far, or (None) all that its user did."""
        for request in list(self._open):
            if request.user_id == user_id and session_id in (None, request.session_id):
                self._stop(request, by_user=True)

    def _stop(self, request: ImageRequest, *, by_user: bool) -> None:
        jobs = sorted(self._open.get(request, ()), key=lambda job: job.index)
        for job in jobs:
            if job.state is JobState.WAITING:
                self.queue.remove(job)
                self._end(job, Interrupted(job, was_running=False, by_user=by_user))
            elif job.task is not None:
                job.stopped_by_user = by_user
                job.task.cancel()

    def begin_nothing_new(self) -> None:
        """Refuse what waits and what comes from now on; what runs may end."""
        self._closing = True
        waiting = [job for jobs in self._open.values() for job in jobs if job.state is JobState.WAITING]
        for job in waiting:
            self._refuse(job, ShuttingDownError("The server is shutting down; this picture was not begun."))

    async def run(self) -> None:
        """Give jobs to backends, until cancelled."""
        while True:
            try:
                self._look()
            except Exception:
                log.exception("the queue could not be looked through")
                await asyncio.sleep(1)
            await self.backends.changed(LOOK_AGAIN_SECONDS if len(self.queue) else None)

    async def close(self) -> None:
        """Stop what still runs, and wait until it has stopped."""
        for request in list(self._open):
            self._stop(request, by_user=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _look(self) -> None:
        """One look at the queue and the backends: whatever can begin begins."""
        now = time.monotonic()
        for job in list(self.queue.heads()):
            if now - job.queued_at > self.settings.queue_minutes * 60:
                self._refuse(
                    job, QueueTimeoutError("The picture waited too long: every backend that fits was busy.")
                )
        plan = self._planner.plan(self._places(), now)
        for job, place in plan.runs:
            self._start(job, place)
        for job, place in plan.loads:
            self._start_load(job, place)
        for demand, reasons in plan.refusals.items():
            error = self._hopeless(demand, reasons)
            for job in self.queue.of_demand(demand):
                if job.state is JobState.WAITING:
                    self._refuse(job, error)

    def _places(self) -> list[Place]:
        return [place for place in map(_place, self.backends) if place is not None]

    def _slot(self, number: int) -> BackendSlot:
        slot = self.backends.get(number)
        if slot is None:
            raise LookupError(f"backend {number} is gone")
        return slot

    def _hopeless(self, demand: Demand, reasons: list[str]) -> NoBackendError:
        if not reasons:
            message = str(backend_status(self.backends)["message"])
            return NoBackendError(f"No backend is available. {message}".strip())
        if all(reason in {text for _, text in self.loads.failed.values()} for reason in reasons):
            return NoBackendError(
                f"No backend could load the model {demand.model}: {'; '.join(reasons)}", "model_load_failed"
            )
        return NoBackendError(f"No backend fits this request: {'; '.join(reasons)}.")

    def _refuse(self, job: Job, error: T2IError) -> None:
        self.queue.remove(job)
        self._end(job, Failed(job, error))

    def _start(self, job: Job, place: int) -> None:
        slot, claim = self._slot(place), contextlib.ExitStack()
        claim.enter_context(slot.claim())
        job.state, job.attempts = JobState.RUNNING, job.attempts + 1
        outcome = asyncio.create_task(self._run(job, slot, claim))
        job.task = outcome
        outcome.add_done_callback(partial(self._settle, job, claim))
        self.events.publish(Started(job, slot.id))

    async def _run(self, job: Job, slot: BackendSlot, claim: contextlib.ExitStack) -> JobEvent:
        """Make one picture; the event says how it ended."""
        try:
            output = await self._generate(job, slot)
            job.task = None  # From here on there is a picture, and it is kept whoever interrupts.
            claim.close()
            return PictureMade(job, await self.pictures.keep(job, output))
        except WorkerLostError as error:
            may_retry = error.may_retry and job.attempts < ATTEMPTS and not self._closing
            log.warning("job %s: %s", job.request.id, error.text)
            return Waiting(job) if may_retry else Failed(job, error)
        except (BackendError, ModelError, OutputError, T2IError) as error:
            return Failed(job, error)
        except Exception:
            log.exception("a job failed")
            return Failed(job, T2IError("Something went wrong in the server; its log says more."))

    async def _generate(self, job: Job, slot: BackendSlot) -> EncodedOutput:
        patience = self.settings.stall_minutes * 60
        loop, step, steps = asyncio.get_running_loop(), 0, max(1, int(job.request.amount("steps", 20)))
        replies = slot.invoke(GENERATE, self.pictures.image_job(job))
        output: EncodedOutput | None = None
        try:
            async with asyncio.timeout(patience) as deadline, contextlib.aclosing(replies):
                async for reply in replies:
                    deadline.reschedule(loop.time() + patience)
                    match reply:
                        case Progress():
                            step, steps = reply.step, max(1, reply.steps)
                            self.events.publish(Stepped(job, step, steps))
                        case EncodedPreview():
                            self.events.publish(Previewed(job, reply, step, steps))
                        case RawFrame():
                            self.events.publish(Forwarded(job, reply))
                        case EncodedOutput():
                            output = output or reply
        except TimeoutError:
            raise StalledError(
                f"{slot.label} showed no progress for {self.settings.stall_minutes:g} minutes, and was stopped."
            ) from None
        if output is None:
            raise T2IError(f"{slot.label} ended without a picture.")
        return output

    def _settle(self, job: Job, claim: contextlib.ExitStack, task: asyncio.Task[JobEvent]) -> None:
        """A job's task is done, or never began."""
        claim.close()
        outcome = None if task.cancelled() else task.result()
        if outcome is None or (isinstance(outcome, Waiting) and job.stopped_by_user is not None):
            outcome = Interrupted(job, was_running=True, by_user=bool(job.stopped_by_user))
        job.task = None
        self.queue.give_back(job, refund=not isinstance(outcome, PictureMade))
        if isinstance(outcome, Waiting):
            job.state = JobState.WAITING
            self.queue.add(job)
            self.events.publish(outcome)
        else:
            self._end(job, outcome)
        self.backends.notify()

    def _end(self, job: Job, outcome: JobEvent) -> None:
        job.state = JobState.ENDED
        jobs = self._open[job.request]
        jobs.remove(job)
        self._untell(job)
        self.events.publish(outcome)
        if isinstance(outcome, Failed) and not self._closing and not job.request.flag("continueaftererrors"):
            self._stop(job.request, by_user=False)
        if not jobs and self._open.pop(job.request, None) is not None:
            self.events.publish(Done(job.request))

    def _start_load(self, job: Job, place: int) -> None:
        model = job.request.model
        if model is None:
            raise ValueError("a job without a model has nothing to load")
        self._told.setdefault(model.name, {})
        for waiting in self.queue.of_model(model.name):
            self._tell_loading(waiting)
        self._keep(asyncio.create_task(self._load(self._slot(place), model)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hash(self, model: Model) -> None:
        """Later pictures of a model tell its hash; reading the file for it must not hold up the first."""
        await self.models.tensor_hash(model)

    def _tell_loading(self, job: Job) -> None:
        """Tell a session, once, that the model that it waits for is loading."""
        told = self._told.get(job.demand.model or "")
        if told is not None and told.setdefault(job.request.session_id, job) is job:
            self.events.publish(LoadingModel(job))

    def _untell(self, job: Job) -> None:
        """A job ends; if it stood for its session, the session's last one that still waits does from now on."""
        told, session = self._told.get(job.demand.model or "", {}), job.request.session_id
        if told.get(session) is job:
            del told[session]
            self.events.publish(LoadingModel(job, done=True))
            left = [j for j in self.queue.of_model(job.demand.model or "") if j.request.session_id == session]
            if left:
                self._tell_loading(left[-1])

    async def _load(self, slot: BackendSlot, model: Model) -> None:
        """Have a backend load a model for whoever waits for it; nobody's interrupt ends this."""
        key = (slot.id, model.name)
        try:
            with slot.claim():
                await self.models.load_model(slot, model)
            self.loads.since[slot.id] = time.monotonic()
            self._losses.pop(key, None)
            self._keep(asyncio.create_task(self._hash(model)))
        except (ModelError, BackendError) as error:
            self._losses[key] = losses = self._losses.get(key, 0) + 1
            if not isinstance(error, WorkerLostError) or losses >= ATTEMPTS:
                self.loads.failed[key] = (time.monotonic(), str(error))
                self._losses.pop(key)
        except Exception:
            log.exception("loading %s failed", model.name)
            self.loads.failed[key] = (time.monotonic(), "something went wrong in the server")
        finally:
            self.loads.active.pop(slot.id, None)
            if model.name not in self.loads.active.values():
                for job in self._told.pop(model.name, {}).values():
                    self.events.publish(LoadingModel(job, done=True))
            self.backends.notify()


def _place(slot: BackendSlot) -> Place | None:
    """A backend as the queue sees it; None if it is out of the question for now."""
    coming = slot.enabled and (
        slot.restarting or slot.reserved or slot.status in {Status.WAITING, Status.LOADING}
    )
    if not coming and not (slot.usable and GENERATE.name in slot.abilities):
        return None
    return Place(
        slot.id,
        slot.type.id,
        model=slot.current_model,
        usages=slot.usages,
        max_usages=slot.max_usages,
        loader=slot.can_load_models,
        coming=coming,
        features=frozenset(slot.features),
        compat_classes=slot.type.compat_classes,
        formats=slot.type.formats,
        models=None if slot.models is None else slot.models.stems,
        options=slot.options,
        parent_id=slot.parent.id if slot.parent else None,
        idle_for=float("inf") if slot.seconds_since_used is None else slot.seconds_since_used,
        title=slot.title,
    )
