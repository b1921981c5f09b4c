"""A loaded model at work: the continuous batching engine on torch."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.conditioning import Conditioning, TextEncoder, stack
from swarmkernel_backends_torch.loading import Parts, load_vae, scale_of
from swarmkernel_backends_torch.pixels import Previewer, decode
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_diffusion import Arrays, Engine, NoiseSchedule, Sample, StepReport
from swarmkernel_t2i_api import ImageJob, Output, Preview, Progress

log = logging.getLogger(__name__)
Event: TypeAlias = Progress | Preview | Output | Exception
#: Seconds between two previews of one job.
PREVIEW_SECONDS = 0.15


@attrs.define(eq=False)
class Job:
    """An admitted job: what it asked for, its VAE, the last step that was told and when the last preview was."""

    asked: ImageJob
    vae: Any
    step: int = 0
    preview_at: float = 0.0


@attrs.define(eq=False)
class Sampler:
    """
    One loaded model, sampling many jobs together. To be called from one thread.

    *path* says what was loaded; *device* and *dtype* where and how it computes.
    """

    path: Path
    parts: Parts
    device: torch.device
    dtype: torch.dtype
    settings: TorchSettings
    engine: Engine = attrs.field(init=False)
    text: TextEncoder = attrs.field(init=False)
    _previewer: Previewer | None = attrs.field(default=None, init=False)
    _vaes: dict[str, Any] = attrs.field(factory=dict, init=False)
    _jobs: dict[str, Job] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        for module in (self.parts.unet,) if self._offloads else self.parts.modules():
            module.to(self.device)
        if self.device.type == "cuda":
            self.parts.unet.to(memory_format=torch.channels_last)  # what its convolution kernels want
        if self.settings.attention == "sliced":
            self.parts.unet.set_attention_slice("max")
        self.text = TextEncoder(self.parts, self.device, self._offloads)
        self.engine = Engine(
            self._predict,
            NoiseSchedule.from_config(self.parts.scheduler),
            prediction=self.parts.scheduler.get("prediction_type", "epsilon"),
            arrays=Arrays(lambda a: torch.from_numpy(np.ascontiguousarray(a)).to(self.device), torch.cat),
            max_batch=self.settings.max_batch,
        )

    @property
    def active(self) -> int:
        """How many jobs are running."""
        return self.engine.active

    @property
    def _offloads(self) -> bool:
        return self.settings.offload == "model"

    def admit(self, job: ImageJob) -> None:
        """Let *job* join the batch at the next step; DiffusionError or BackendError if it cannot."""
        vae = self.parts.vae if job.vae_path is None else self.vae(job.vae_path)
        self.engine.admit(self._sample(job, scale_of(vae)))
        self._jobs[job.id] = Job(job, vae)

    def remove(self, job_id: str) -> None:
        """Forget a job, running or not."""
        self.engine.remove(job_id)
        self._jobs.pop(job_id, None)

    def step(self) -> list[tuple[str, Event]]:
        """One step of the batch, and what came of it: events with the id of their job."""
        report = self.engine.step()
        return [
            *self._advanced(report),
            *(event for done in report.finished for event in self._finished(str(done.id), done.latents)),
            *((str(failed.id), self._failed(str(failed.id), failed.error)) for failed in report.failed),
        ]

    def vae(self, path: str) -> Any:
        """The VAE of that file or folder in place of the model's own; the last one is kept."""
        if path not in self._vaes:
            found = load_vae(Path(path), self.dtype, self.parts.family)
            wanted = self.parts.unet.config.in_channels
            if (channels := found.config.latent_channels) != wanted:
                text = f"The VAE {Path(path).name} has {channels} latent channels; this model needs {wanted}."
                raise BackendError(text, "unsupported_model")
            self._vaes = {path: found}
        return self._vaes[path]

    def forget(self) -> None:
        """Drop what can be made again: encoded prompts and VAEs besides the model's own."""
        self.text.forget()
        self._vaes.clear()

    def _sample(self, job: ImageJob, scale: int) -> Sample:
        guided = job.cfg_scale != 1
        prompts = [job.prompt, job.negative_prompt] if guided else [job.prompt]
        pieces = max(map(self.text.pieces, prompts))
        size = (job.height, job.width)
        encoded = [self.text.encode(text, pieces, job.clip_stop_at_layer, size) for text in prompts]
        varied = job.variation_seed is not None
        return Sample(
            id=job.id,
            # Rounded up: decode() cuts the picture to the size that was asked for.
            shape=(self.parts.unet.config.in_channels, *(math.ceil(side / scale) for side in size)),
            cond=encoded[0],
            uncond=encoded[1] if guided else None,
            seed=job.seed,
            steps=job.steps,
            cfg_scale=job.cfg_scale,
            sampler=job.sampler,
            schedule=job.scheduler,
            variation_seed=job.variation_seed or 0,
            variation_strength=job.variation_strength if varied else 0.0,
            group=pieces,
        )

    def _advanced(self, report: StepReport) -> list[tuple[str, Event]]:
        events: list[tuple[str, Event]] = []
        for progress in report.advanced:
            job = self._jobs[str(progress.id)]
            if progress.step == job.step:  # a sampler of two calls a step is half way through one
                continue
            job.step = progress.step
            events.append((job.asked.id, Progress(progress.step, progress.steps)))
            if (preview := self._preview(job)) is not None:
                events.append((job.asked.id, preview))
        return events

    def _finished(self, job_id: str, latents: torch.Tensor) -> list[tuple[str, Event]]:
        job = self._jobs.pop(job_id)
        done: Event
        try:
            size = (job.asked.height, job.asked.width)
            done = Output(decode(job.vae, latents, size, self.device, offload=self._offloads))
        except Exception as exc:  # noqa: BLE001  # out of memory, most likely: the other jobs go on
            return [(job_id, exc)]
        return [(job_id, Progress(job.asked.steps, job.asked.steps)), (job_id, done)]

    def _failed(self, job_id: str, error: Exception) -> Exception:
        self._jobs.pop(job_id, None)
        return error

    def _preview(self, job: Job) -> Preview | None:
        now = time.monotonic()
        if not job.asked.previews or now - job.preview_at < PREVIEW_SECONDS:
            return None
        latents = self.engine.preview(job.asked.id)
        if latents is None:
            return None
        job.preview_at = now
        try:
            if self._previewer is None:
                self._previewer = Previewer.fit(self.parts.vae, self.device, offload=self._offloads)
            return Preview(self._previewer.draw(latents))
        except Exception:
            log.exception("a preview could not be drawn")
            job.preview_at = math.inf
            return None

    def _predict(self, x: torch.Tensor, timesteps: torch.Tensor, rows: list[Conditioning]) -> torch.Tensor:
        tokens, added = stack(rows, self.dtype)
        found = self.parts.unet(
            x.to(self.dtype), timesteps, tokens, added_cond_kwargs=added, return_dict=False
        )[0]
        output: torch.Tensor = found.float()
        return output
