"""A loaded model at work: the continuous batching engine on torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.conditioning import Conditioning, TextEncoder, stack
from swarmkernel_backends_torch.init_images import encode, read_picture
from swarmkernel_backends_torch.loading import Parts, load_vae, scale_of
from swarmkernel_backends_torch.pixels import Previewer, decode
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_diffusion import Arrays, Engine, NoiseSchedule, Sample, start_step
from swarmkernel_t2i_api import BatchSampler, ImageJob


@attrs.define(eq=False)
class TorchSampler(BatchSampler):
    """
    One loaded model, sampling many jobs together. To be called from one thread.

    *device* and *dtype* say where and how it computes.
    """

    parts: Parts
    device: torch.device
    dtype: torch.dtype
    settings: TorchSettings
    text: TextEncoder = attrs.field(init=False)
    _previewer: Previewer | None = attrs.field(default=None, init=False)
    _vaes: dict[str, Any] = attrs.field(factory=dict, init=False)

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
    def _offloads(self) -> bool:
        return self.settings.offload == "model"

    def vae(self, path: str | None) -> Any:
        """The VAE of that file or folder, of which the last one is kept, or the model's own."""
        if path is None:
            return self.parts.vae
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

    def sample(self, job: ImageJob, vae: Any) -> Sample:
        """The job as the engine wants it, its prompts encoded."""
        scale = scale_of(vae)
        guided = job.cfg_scale != 1
        prompts = [job.prompt, job.negative_prompt] if guided else [job.prompt]
        pieces = max(map(self.text.pieces, prompts))
        size = (job.height, job.width)
        encoded = [self.text.encode(text, pieces, job.clip_stop_at_layer, size) for text in prompts]
        varied = job.variation_seed is not None
        # Rounded up: decode() cuts the picture to the size that was asked for.
        shape = (self.parts.unet.config.in_channels, *(math.ceil(side / scale) for side in size))
        init = self._init(job, vae, shape)
        return Sample(
            id=job.id,
            shape=shape,
            init=init,
            start_step=_first_step(job) if init is not None else 0,
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

    def _init(self, job: ImageJob, vae: Any, shape: tuple[int, ...]) -> torch.Tensor | None:
        """The latents of the job's picture; None where it begins from noise alone."""
        if job.init_image is None or job.init_creativity >= 1:
            return None
        pixels = read_picture(job.init_image, (job.height, job.width))
        return encode(vae, pixels, shape, self.device, offload=self._offloads).to(self.device)

    def decode(self, job: ImageJob, vae: Any, latents: torch.Tensor) -> Any:
        """The picture of finished latents, in the size that was asked for."""
        return decode(vae, latents, (job.height, job.width), self.device, offload=self._offloads)

    def draw(self, latents: torch.Tensor) -> Any:
        """A rough picture of latents, by a map that is fitted to the model's VAE at the first call."""
        if self._previewer is None:
            self._previewer = Previewer.fit(self.parts.vae, self.device, offload=self._offloads)
        return self._previewer.draw(latents)

    def _predict(self, x: torch.Tensor, timesteps: torch.Tensor, rows: list[Conditioning]) -> torch.Tensor:
        tokens, added = stack(rows, self.dtype)
        found = self.parts.unet(
            x.to(self.dtype), timesteps, tokens, added_cond_kwargs=added, return_dict=False
        )[0]
        output: torch.Tensor = found.float()
        return output


def _first_step(job: ImageJob) -> int:
    """The step at which a job with a picture begins: the last one at the latest."""
    return start_step(job.steps, job.init_creativity) if job.init_creativity > 0 else job.steps - 1
