"""One job on a ComfyUI server, from its graph to its picture."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import attrs

from swarmkernel_backends_remote.comfy_catalogue import Catalogue
from swarmkernel_backends_remote.comfy_events import Events, Run
from swarmkernel_backends_remote.comfy_request import graph_of
from swarmkernel_backends_remote.comfy_server import ComfyServer, check_history, image_of
from swarmkernel_backends_remote.errors import PeerError, PeerLostError
from swarmkernel_backends_remote.pictures import PREVIEW_PIXELS, made_grey, most_pixels, picture
from swarmkernel_t2i_api import ImageJob, Output, Preview, Progress, RawFrame

#: How long nothing is heard before the server is asked.
POLL_SECONDS: Final = 2.0
#: The history gets its entry soon after the job's last event.
_HISTORY_TRIES: Final = 40
_HISTORY_SECONDS: Final = 0.1
#: What messages of ComfyUI are called where they are passed on as they are, and how many wait for that.
RAW: Final = "comfy_websocket"
MOST_RAW: Final = 64


@attrs.define(eq=False)
class ComfyJob:
    """Makes the picture of a job; `has_ended` says whether that has ended by itself over there."""

    server: ComfyServer
    events: Events
    catalogue: Catalogue
    job: ImageJob
    stuck_seconds: float
    id: str = attrs.field(factory=lambda: str(uuid.uuid4()), init=False)
    has_ended: bool = attrs.field(default=False, init=False)
    _step: int = attrs.field(default=0, init=False)
    _sent: asyncio.Task[str] | None = attrs.field(default=None, init=False)

    async def replies(self) -> AsyncGenerator[Progress | Preview | Output | RawFrame, None]:
        """Progress, previews, and the picture."""
        files = await self._upload()
        graph = graph_of(self.job, self.catalogue, files)
        with self._listening() as run:
            await self._submit(run, graph)
            is_over = False
            while not is_over:
                if not run.is_over:
                    await self._wait(run)
                is_over = run.is_over  # more may be heard while what was is passed on
                async for reply in self._heard(run):
                    yield reply
            self.has_ended = True
            if run.error is not None:
                raise run.error
            yield Output(await self._result(run))

    async def clean(self) -> None:
        """Leave nothing of the job over there, neither running nor told of."""
        if self._sent is None:
            return
        try:
            found, known = await self._sent, True
        except PeerLostError:
            found, known = self.id, False  # it may have arrived, or arrive still
        except PeerError:
            return
        if not self.has_ended:
            await self.server.interrupt(found, known=known)
        await self.server.forget(found)

    async def _submit(self, run: Run, graph: Mapping[str, Any]) -> None:
        """Send the graph. Who stops listening meanwhile does not keep the answer from coming, with the id to end it by."""
        self._sent = asyncio.create_task(self.server.submit(graph, run.id))
        actual = await asyncio.shield(self._sent)
        if actual != run.id:
            self.events.runs[actual] = self.events.runs.pop(run.id)
            run.id = actual

    @contextmanager
    def _listening(self) -> Iterator[Run]:
        run = self.events.runs[self.id] = Run(self.id)
        run.raw = deque(maxlen=MOST_RAW) if self.job.forward_raw else None
        try:
            yield run
        finally:
            self.events.runs.pop(run.id, None)

    async def _upload(self) -> dict[str, str]:
        mask = self.job.mask_image
        given = {
            "init_image": self.job.init_image,
            "mask_image": None if mask is None else await made_grey(mask),
        }
        return {name: await self.server.upload(data) for name, data in given.items() if data is not None}

    async def _wait(self, run: Run) -> None:
        """Return when something was heard of the job, or it was asked for."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await run.changed.wait()
        except TimeoutError:
            await self._ask_about(run)
        run.changed.clear()

    async def _ask_about(self, run: Run) -> None:
        """Find out what became of a job of which nothing is heard."""
        if await self.server.history(run.id) is not None:
            run.end()
            return
        place = await self.server.place(run.id)
        if place == "pending":
            run.touch()
        elif place is None and await self.server.history(run.id) is None:
            raise PeerLostError(f"{self.server.web.name} no longer knows of the job.")
        elif time.monotonic() - run.heard_at > self.stuck_seconds:
            told = f"{self.server.web.name} gave no sign of life for {self.stuck_seconds:g} seconds."
            raise PeerError(told, "remote_stuck")

    async def _heard(self, run: Run) -> AsyncIterator[Progress | Preview | RawFrame]:
        while run.raw:
            yield RawFrame(RAW, run.raw.popleft())
        step = round(run.done * self.job.steps)
        if step > self._step:
            self._step = step
            yield Progress(step, self.job.steps)
        shown, run.preview = run.preview, None
        if shown is not None and self.job.previews:
            with suppress(PeerError):
                yield Preview(await picture(shown, PREVIEW_PIXELS))

    async def _result(self, run: Run) -> Any:
        """The picture, decoded."""
        for _ in range(_HISTORY_TRIES):
            entry = await self.server.history(run.id)
            if entry is not None:
                check_history(entry)
                break
            await asyncio.sleep(_HISTORY_SECONDS)
        else:
            entry = {}
        image = image_of(entry.get("outputs")) or image_of(run.outputs)
        if image is None:
            raise PeerError(f"{self.server.web.name} made no picture.")
        return await picture(await self.server.view(image), most_pixels(self.job))
