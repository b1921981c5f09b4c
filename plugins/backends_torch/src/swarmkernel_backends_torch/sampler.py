"""A loaded model at work: the continuous batching engine on torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import torch

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.conditioning import TextEncoder, stack
from swarmkernel_backends_torch.loading import Parts, load_vae, scale_of
from swarmkernel_backends_torch.pixels import Previewer, decode, encode
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_diffusion import Arrays, Conditioning, Engine, NoiseSchedule, Sample
from swarmkernel_t2i_api import ImageJob, LatentSampler


@attrs.define(eq=False)
class TorchSampler(LatentSampler):
    """
    One loaded model, sampling many jobs together. To be called from one thread.

    *device* and *dtype* say where and how it computes.
    """

    make: ClassVar = Sample
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
        arrays = Arrays(lambda a: torch.from_numpy(np.ascontiguousarray(a)).to(self.device), torch.cat)
        family, towers = self.parts.family, self.parts.towers
        self.text = TextEncoder(family, towers, arrays, self.device, self._offloads)
        self.engine = Engine(
            self._predict,
            NoiseSchedule.from_config(self.parts.scheduler),
            prediction=self.parts.scheduler.get("prediction_type", "epsilon"),
            arrays=arrays,
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
            if (channels := found.config.latent_channels) != self.channels:
                text = f"The VAE {Path(path).name} has {channels} latent channels; this model needs {self.channels}."
                raise BackendError(text, "unsupported_model")
            self._vaes = {path: found}
        return self._vaes[path]

    def forget(self) -> None:
        """Drop what can be made again: encoded prompts and VAEs besides the model's own."""
        self.text.forget()
        self._vaes.clear()

    @property
    def channels(self) -> int:
        """How many channels latents have."""
        channels: int = self.parts.unet.config.in_channels
        return channels

    def scale(self, vae: Any) -> int:
        """Pixels per latent, in each direction."""
        return scale_of(vae)

    def encode(self, vae: Any, pixels: np.ndarray[Any, Any]) -> torch.Tensor:
        """The latents of a picture, by the VAE's encoder."""
        pictures = torch.from_numpy(pixels)[None]
        return encode(vae, pictures, self.device, offload=self._offloads)[0].to(self.device)

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
