"""A base for samplers: the jobs of a running batch, and what is told of each."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import attrs

from swarmkernel_t2i_api.types import ImageJob, Output, Preview, Progress

if TYPE_CHECKING:
    from swarmkernel_t2i_api.init_picture import InitPicture

log = logging.getLogger(__name__)
SampleEvent: TypeAlias = Progress | Preview | Output | Exception
#: Seconds between two previews of one job.
PREVIEW_SECONDS = 0.15


class _Report(Protocol):
    """What one step did: rows with `id` and `step` of `steps`, with `latents`, and with an `error`."""

    @property
    def advanced(self) -> Sequence[Any]: ...
    @property
    def finished(self) -> Sequence[Any]: ...
    @property
    def failed(self) -> Sequence[Any]: ...


class BatchEngine(Protocol):
    """What steps the batch, as `Engine` of swarmkernel-diffusion does."""

    @property
    def active(self) -> int:
        """How many samples are running."""

    def admit(self, sample: Any) -> None:
        """Let a sample join at the next step."""

    def remove(self, sample_id: Any) -> bool:
        """Forget a sample."""

    def preview(self, sample_id: Any) -> Any | None:
        """A sample's latest denoised estimate."""

    def step(self) -> _Report:
        """One step of the batch."""


@attrs.define(eq=False)
class _Job:
    """
    An admitted job: what it asked for, its VAE, the picture that it starts from, the last step that was told and when
    the last preview was.
    """

    asked: ImageJob
    vae: Any
    init: InitPicture | None
    step: int = 0
    preview_at: float = 0.0


@attrs.define(eq=False)
class BatchSampler(ABC):
    """
    One loaded model, sampling many jobs together. To be called from one thread.

    *path* says what was loaded. A subclass sets `engine`, and makes samples of jobs and pictures of latents.
    """

    path: Path
    engine: BatchEngine = attrs.field(init=False)
    _jobs: dict[str, _Job] = attrs.field(factory=dict, init=False)

    @abstractmethod
    def vae(self, path: str | None) -> Any:
        """The VAE of that file or folder; None stands for the model's own."""

    @abstractmethod
    def sample(self, job: ImageJob, vae: Any, init: InitPicture | None) -> Any:
        """What the engine is asked for."""

    @abstractmethod
    def decode(self, job: ImageJob, vae: Any, latents: Any) -> Any:
        """The finished picture, in the size that was asked for."""

    @abstractmethod
    def draw(self, latents: Any) -> Any:
        """A rough picture of latents; None where there is no way to draw one."""

    @abstractmethod
    def forget(self) -> None:
        """Drop what can be made again."""

    @property
    def active(self) -> int:
        """How many jobs are running."""
        return self.engine.active

    def admit(self, job: ImageJob, init: InitPicture | None = None) -> None:
        """Let *job* join the batch at the next step, or raise what is wrong with it; *init* is what it starts from."""
        vae = self.vae(job.vae_path)
        self.engine.admit(self.sample(job, vae, init))
        self._jobs[job.id] = _Job(job, vae, init)

    def remove(self, job_id: str) -> None:
        """Forget a job, running or not."""
        self.engine.remove(job_id)
        self._jobs.pop(job_id, None)

    def step(self) -> list[tuple[str, SampleEvent]]:
        """One step of the batch, and what came of it: events with the id of their job."""
        report = self.engine.step()
        return [
            *self._advanced(report),
            *(event for done in report.finished for event in self._finished(str(done.id), done.latents)),
            *((str(failed.id), self._failed(str(failed.id), failed.error)) for failed in report.failed),
        ]

    def _advanced(self, report: _Report) -> list[tuple[str, SampleEvent]]:
        events: list[tuple[str, SampleEvent]] = []
        for progress in report.advanced:
            job = self._jobs[str(progress.id)]
            if progress.step == job.step:  # a sampler of two calls a step is half way through one
                continue
            job.step = progress.step
            events.append((job.asked.id, Progress(progress.step, progress.steps)))
            if (preview := self._preview(job)) is not None:
                events.append((job.asked.id, preview))
        return events

    def _finished(self, job_id: str, latents: Any) -> list[tuple[str, SampleEvent]]:
        job = self._jobs.pop(job_id)
        try:
            made = self.decode(job.asked, job.vae, latents)
            done = Output(made if job.init is None else job.init.kept(made))
        except Exception as exc:  # noqa: BLE001  # out of memory, most likely: the other jobs go on
            return [(job_id, exc)]
        return [(job_id, Progress(job.asked.steps, job.asked.steps)), (job_id, done)]

    def _failed(self, job_id: str, error: Exception) -> Exception:
        self._jobs.pop(job_id, None)
        return error

    def _preview(self, job: _Job) -> Preview | None:
        now = time.monotonic()
        if not job.asked.previews or now - job.preview_at < PREVIEW_SECONDS:
            return None
        latents = self.engine.preview(job.asked.id)
        if latents is None:
            return None
        job.preview_at = now
        try:
            picture = self.draw(latents)
        except Exception:
            log.exception("a preview could not be drawn")
            picture = None
        if picture is None:
            job.preview_at = math.inf
            return None
        return Preview(picture)
