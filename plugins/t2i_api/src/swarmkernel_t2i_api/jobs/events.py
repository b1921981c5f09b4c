"""What happens to jobs, told once on one in-process bus."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import attrs

from swarmkernel_t2i_api.jobs.job import Job, Picture
from swarmkernel_t2i_api.params.request import ImageRequest
from swarmkernel_t2i_api.types import EncodedPreview, RawFrame

log = logging.getLogger(__name__)


@attrs.frozen
class Accepted:
    """A request was checked, and its jobs are about to wait."""

    request: ImageRequest


@attrs.frozen
class JobEvent:
    """Something that happened to one job."""

    job: Job

    @property
    def request(self) -> ImageRequest:
        """The job's request."""
        return self.job.request


@attrs.frozen
class Waiting(JobEvent):
    """A job waits for a backend: for the first time, or again because its worker was lost."""


@attrs.frozen
class LoadingModel(JobEvent):
    """A backend began (or, with `done`, ended) to load the model of a waiting job. Each session is told once."""

    done: bool = False


@attrs.frozen
class Started(JobEvent):
    """A backend began a job."""

    backend_id: int


@attrs.frozen
class Stepped(JobEvent):
    """A job is `step` of `steps` steps on its way."""

    step: int
    steps: int


@attrs.frozen
class Previewed(JobEvent):
    """A rough look at a job that is under way, and how far it is."""

    preview: EncodedPreview
    step: int
    steps: int


@attrs.frozen
class Forwarded(JobEvent):
    """The engine behind a job's backend said something that is passed on as it is."""

    frame: RawFrame


@attrs.frozen
class PictureMade(JobEvent):
    """A job's picture is finished, and saved if it was to be saved."""

    picture: Picture


@attrs.frozen
class Failed(JobEvent):
    """A job ended without a picture; the error's text is for the user."""

    error: Exception


@attrs.frozen
class Interrupted(JobEvent):
    """A job was stopped: by its user, or (not `by_user`) because another job of its request failed."""

    was_running: bool
    by_user: bool


@attrs.frozen
class Done:
    """Every job of a request has ended."""

    request: ImageRequest


Event: TypeAlias = Accepted | JobEvent | Done
Listener: TypeAlias = Callable[[Event], None]


@attrs.define(eq=False)
class Events:
    """The bus, as a service. Listeners are called at once and in order, so they must be quick."""

    _all: list[Listener] = attrs.field(factory=list, init=False)
    _by_request: dict[ImageRequest, list[Listener]] = attrs.field(factory=dict, init=False)

    def publish(self, event: Event) -> None:
        """Tell everyone who listens. A listener that fails is logged and costs nobody else anything."""
        for listener in (*self._all, *self._by_request.get(event.request, ())):
            try:
                listener(event)
            except Exception:
                log.exception("a listener of %s failed", type(event).__name__)

    @contextmanager
    def listen(self, listener: Listener, request: ImageRequest | None = None) -> Iterator[None]:
        """Call *listener* with every event, or with those of one *request*, while inside."""
        listeners = self._all if request is None else self._by_request.setdefault(request, [])
        listeners.append(listener)
        try:
            yield
        finally:
            listeners.remove(listener)
            if request is not None and not listeners:
                self._by_request.pop(request, None)
