"""A request whose client waits for everything at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs

from swarmkernel import Call
from swarmkernel_t2i_api.errors import InterruptedJobError
from swarmkernel_t2i_api.jobs.events import Done, Event, Events, Failed, Interrupted, PictureMade
from swarmkernel_t2i_api.jobs.jobs import Jobs
from swarmkernel_t2i_api.params.request import RequestReader


@attrs.define(eq=False)
class Collector:
    """A listener that keeps the pictures by index, the first error that counts, and knows when all is done."""

    pictures: dict[int, str] = attrs.field(factory=dict)
    error: Exception | None = None
    done: asyncio.Event = attrs.field(factory=asyncio.Event)
    _passed_over: Exception | None = None

    def __call__(self, event: Event) -> None:
        """Keep what matters of one event."""
        match event:
            case PictureMade(job, picture):
                self.pictures[job.index] = picture.url
            case Failed(job, error) if job.request.flag("continueaftererrors"):
                self._passed_over = error
            case Failed(_, error):
                self.error = self.error or error
            case Interrupted(_, was_running=True, by_user=True):
                self.error = self.error or InterruptedJobError("The generation was interrupted.")
            case Done():
                self.done.set()

    def outcome(self) -> list[str]:
        """The pictures in the order of their indices; raises the error, also one passed over if nothing was made."""
        error = self.error or (None if self.pictures else self._passed_over)
        if error is not None:
            raise error
        return [self.pictures[index] for index in sorted(self.pictures)]


async def collect(call: Call, body: Mapping[str, Any]) -> list[str]:
    """The pictures of a request, by index, when all are finished. The work goes on if the client goes away."""
    request = await call.get(RequestReader).read(body, call.session, call.allowed)
    collector = Collector()
    with call.get(Events).listen(collector, request):
        call.get(Jobs).submit(request)
        await collector.done.wait()
    return collector.outcome()
