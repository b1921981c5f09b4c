"""A loaded model at work: the continuous batching engine on torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from swarmkernel_backends_torch.conditioning import Conditioning, TextEncoder, stack
from swarmkernel_backends_torch.loading import Parts, load_vae, scale_of
from swarmkernel_backends_torch.pixels import Previewer, decode
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_diffusion import Arrays, Engine, NoiseSchedule, Sample
from swarmkernel_t2i_api import ImageJob, Output, Preview, Progress

#: Seconds between two previews of one job.
PREVIEW_SECONDS = 0.15


@attrs.define(eq=False)
class Job:
    """An admitted job: what it asked for, its VAE, and what has happened to it that nobody has read yet."""

    asked: ImageJob
    vae: Any
    preview_at: float = 0.0


@attrs.define(eq=False)
class Sampler:
    """
    One loaded model, sampling many jobs together. To be called from one thread.

    *path* and *prediction* say what was loaded; *device* and *dtype* where and how it computes.
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
        offload = self.settings.offload == "model"
        self.parts.unet.to(self.device)
        if self.settings.attention == "sliced":
            self.parts.unet.set_attention_slice("auto")
        self.text = TextEncoder(self.parts, self.device, offload)
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

    def admit(self, job: ImageJob) -> None:
        """Let *job* join the batch at the next step; DiffusionError or BackendError if it cannot."""
        vae = self._vae(job.vae_path)
        scale = scale_of(vae)
        guided = job.cfg_scale != 1
        pieces = max(
            self.text.pieces(t) for t in ([job.prompt, job.negative_prompt] if guided else [job.prompt])
        )
        size = (job.height, job.width)
        stop = job.clip_stop_at_layer
        sample = Sample(
            id=job.id,
            shape=(self.parts.unet.config.in_channels, job.height // scale, job.width // scale),
            cond=self.text.encode(job.prompt, pieces, stop, size),
            uncond=self.text.encode(job.negative_prompt, pieces, stop, size) if guided else None,
            seed=job.seed,
            steps=job.steps,
            cfg_scale=job.cfg_scale,
            sampler=job.sampler,
            schedule=job.scheduler,
            variation_seed=job.variation_seed or 0,
            variation_strength=job.variation_strength if job.variation_seed is not None else 0.0,
            group=pieces,
        )
        self.engine.admit(sample)
        self._jobs[job.id] = Job(job, vae)

    def remove(self, job_id: str) -> None:
        """Forget a job, running or not."""
        self.engine.remove(job_id)
        self._jobs.pop(job_id, None)

    def step(self) -> list[tuple[str, Progress | Preview | Output | Exception]]:
        """One step of the batch, and what came of it: events with the id of their job."""
        report = self.engine.step()
        events: list[tuple[str, Progress | Preview | Output | Exception]] = []
        for progress in report.advanced:
            job = self._jobs[str(progress.id)]
            events.append((job.asked.id, Progress(progress.step, progress.steps)))
            if (preview := self._preview(job)) is not None:
                events.append((job.asked.id, preview))
        for finished in report.finished:
            job = self._jobs.pop(str(finished.id))
            events.append((job.asked.id, Progress(job.asked.steps, job.asked.steps)))
            events.append((job.asked.id, self._finish(job, finished.latents)))
        for failed in report.failed:
            self._jobs.pop(str(failed.id), None)
            events.append((str(failed.id), failed.error))
        return events

    def _preview(self, job: Job) -> Preview | None:
        now = time.monotonic()
        if not job.asked.previews or now - job.preview_at < PREVIEW_SECONDS:
            return None
        latents = self.engine.preview(job.asked.id)
        if latents is None:
            return None
        job.preview_at = now
        if self._previewer is None:
            self._previewer = Previewer.fit(self.parts.vae, self.device)
        return Preview(self._previewer.draw(latents))

    def _finish(self, job: Job, latents: torch.Tensor) -> Output | Exception:
        try:
            return Output(decode(job.vae, latents, self.device, offload=self.settings.offload == "model"))
        except Exception as exc:  # noqa: BLE001  # out of memory, most likely: the other jobs go on
            return exc

    def _vae(self, path: str | None) -> Any:
        if path is None:
            return self.parts.vae
        if path not in self._vaes:
            self._vaes = {path: load_vae(Path(path), self.dtype, self.parts.family)}
        return self._vaes[path]

    def _predict(self, x: torch.Tensor, timesteps: torch.Tensor, rows: list[Conditioning]) -> torch.Tensor:
        tokens, added = stack(rows, self.dtype)
        found = self.parts.unet(
            x.to(self.dtype), timesteps, tokens, added_cond_kwargs=added, return_dict=False
        )[0]
        output: torch.Tensor = found.float()
        return output
