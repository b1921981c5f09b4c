"""Turns what happens to a client's jobs into frames for it."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final

import attrs

from swarmkernel_t2i_api.jobs.events import (
    Accepted,
    Done,
    Event,
    Failed,
    Forwarded,
    Interrupted,
    LoadingModel,
    PictureMade,
    Previewed,
    Started,
    Stepped,
    Waiting,
)
from swarmkernel_t2i_api.jobs.job import Job, Picture
from swarmkernel_t2i_api.jobs.pictures import Pictures
from swarmkernel_t2i_api.live.outbox import Frame, Outbox, Render
from swarmkernel_t2i_api.outputs.media import data_url
from swarmkernel_t2i_api.params.request import ImageRequest
from swarmkernel_t2i_api.types import EncodedPreview, RawFrame

PREVIEW_NOTICE = "Image is not done generating"
STATUS, KEEP_ALIVE = "status", "keep_alive"
#: Raw frames are left out while so many frames wait, and if they are longer than that.
MOST_WAITING: Final = 32
LONGEST_RAW: Final = 1 << 20


@attrs.define(eq=False)
class _Progress:
    """How far a job is, as its client will hear next. The metadata is told once, a preview until it is sent."""

    job: Job
    metadata: str | None
    fraction: float = 0.0
    preview: EncodedPreview | None = None

    def frame(self) -> Frame:
        """The `gen_progress` frame as of now."""
        progress: dict[str, Any] = {
            "batch_index": str(self.job.index),
            "request_id": self.job.request.id,
            "overall_percent": self.fraction,
            "current_percent": self.fraction,
        }
        if self.preview is not None:
            progress["preview"] = data_url(self.preview.media_type, self.preview.data)
        if self.metadata is not None:
            progress["metadata"] = self.metadata
        self.preview = self.metadata = None
        return {"gen_progress": progress}


@attrs.define(eq=False)
class Feed:
    """A listener that writes into an outbox. `status` gives the frame about the session's counters."""

    outbox: Outbox
    pictures: Pictures
    status: Render
    _progress: dict[Job, _Progress] = attrs.field(factory=dict, init=False)
    _told: set[ImageRequest] = attrs.field(factory=set, init=False)

    def __call__(self, event: Event) -> None:
        """Say what there is to say of one event."""
        match event:
            case Started(job):
                self._started(job)
            case Stepped(job, step, steps):
                self._moved(job, step / steps)
            case Previewed(job, preview, step, steps):
                self._moved(job, step / steps, preview)
            case Forwarded(job, frame):
                self._forwarded(job, frame)
            case PictureMade(job, picture):
                self._made(job, picture)
            case Failed(job, error):
                self._failed(job, error)
            case Interrupted(job, was_running, by_user):
                self._interrupted(job, heard=was_running and by_user)
            case Done():
                self.outbox.put({"discard_indices": []})
            case Accepted() | Waiting() | LoadingModel():
                self._tell_status()

    def _tell_status(self) -> None:
        self.outbox.latest(STATUS, self.status)

    def _started(self, job: Job) -> None:
        self._tell_status()
        metadata = self.pictures.metadata(job, is_preview=True, preview_notice=PREVIEW_NOTICE)
        self._progress[job] = progress = _Progress(job, metadata)
        self.outbox.latest(job, progress.frame)

    def _moved(self, job: Job, fraction: float, preview: EncodedPreview | None = None) -> None:
        progress = self._progress[job]
        progress.fraction = min(1.0, max(0.0, fraction))
        if preview is not None and not job.request.flag("nopreviews"):
            progress.preview = preview
        self.outbox.latest(job, progress.frame)

    def _forwarded(self, job: Job, frame: RawFrame) -> None:
        """Pass a raw frame on, unless it is huge or the client reads too slowly for that."""
        has_room = len(frame.data) <= LONGEST_RAW and len(self.outbox) < MOST_WAITING
        if has_room and job.request.flag("forwardrawbackenddata"):
            data = b64encode(frame.data).decode()
            self.outbox.put({"raw_backend_data": {"type": frame.kind, "data": data}})

    def _made(self, job: Job, picture: Picture) -> None:
        request = job.request
        if request.flag("forwardswarmdata"):
            self.outbox.put({"raw_swarm_data": {"params_used": list(request.values)}})
        frame = {
            "image": picture.url,
            "batch_index": str(job.index),
            "request_id": request.id,
            "metadata": picture.metadata,
        }
        self.outbox.put_long(frame, "image")
        self._ended(job)

    def _failed(self, job: Job, error: Exception) -> None:
        if not job.request.flag("continueaftererrors"):
            self._tell_error(job, str(error), getattr(error, "error_id", None))
        self._ended(job)

    def _interrupted(self, job: Job, *, heard: bool) -> None:
        if heard:
            self._tell_error(job, "The generation was interrupted.", "interrupted")
        self._ended(job)

    def _tell_error(self, job: Job, text: str, error_id: str | None) -> None:
        """One error per request is enough."""
        if job.request not in self._told:
            self._told.add(job.request)
            self.outbox.put({"error": text} | ({"error_id": error_id} if error_id else {}))

    def _ended(self, job: Job) -> None:
        self._progress.pop(job, None)
        self._tell_status()
        self.outbox.latest(KEEP_ALIVE, lambda: {"keep_alive": True})
