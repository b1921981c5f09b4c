"""A loaded model at work: the continuous batching engine on NumPy, around onnxruntime's sessions."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

import attrs
import numpy as np

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.conditioning import TextEncoder, stack
from swarmkernel_backends_onnx.folder import Parts, Vae, load_encoder
from swarmkernel_backends_onnx.graph import Array, Graph, Input
from swarmkernel_backends_onnx.pixels import Previewer, decode, encode
from swarmkernel_diffusion import NUMPY, Conditioning, Engine, NoiseSchedule, Sample
from swarmkernel_t2i_api import ImageJob, LatentSampler

#: Batches whose conditioning is kept on the device: those that take turns while more pictures run than fit in one.
_STACKED = 4


@attrs.define(eq=False)
class OnnxSampler(LatentSampler):
    """One loaded model, sampling many jobs together. To be called from one thread."""

    make: ClassVar = Sample
    parts: Parts
    max_batch: int
    text: TextEncoder = attrs.field(init=False)
    _loaded_encoder: Graph | None = attrs.field(default=None, init=False)
    _previewer: Previewer | None = attrs.field(default=None, init=False)
    _stacked: OrderedDict[tuple[int, ...], tuple[list[Conditioning], dict[str, Any]]] = attrs.field(
        factory=OrderedDict, init=False
    )

    def __attrs_post_init__(self) -> None:
        self.text = TextEncoder(self.parts.family, self.parts.towers, NUMPY)
        # A graph with one timestep for all of its rows serves one picture at a time.
        is_shared = self.parts.unet.inputs["timestep"].is_one
        self.engine = Engine(
            self._predict,
            NoiseSchedule.from_config(self.parts.scheduler),
            prediction=self.parts.scheduler.get("prediction_type", "epsilon"),
            max_batch=1 if is_shared else self.max_batch,
        )

    def vae(self, path: str | None) -> Vae:
        """The model's own VAE; BackendError for another."""
        if path is not None:
            raise BackendError(
                "An ONNX backend uses the model's own VAE; choose Automatic or None, or another type of backend.",
                "unsupported_model",
            )
        return self.parts.vae

    def step(self) -> list[tuple[str, Any]]:
        """One step of the batch, and what came of it; once the batch is empty nothing is kept of it on the device."""
        events = LatentSampler.step(self)
        if not self.active:
            self._stacked.clear()
        return events

    def forget(self) -> None:
        """Drop what can be made again: encoded prompts, what is kept of them on the device, the VAE's encoder."""
        self.text.forget()
        self._loaded_encoder = None
        self._stacked.clear()

    @property
    def channels(self) -> int:
        """How many channels latents have."""
        return self.parts.channels

    def scale(self, vae: Vae) -> int:
        """Pixels per latent, in each direction."""
        return vae.scale

    def encode(self, vae: Vae, pixels: Array) -> Array:
        """The latents of a picture, by the VAE's encoder; BackendError if the model has none."""
        encoder = self._encoder()
        if encoder is None:
            raise BackendError(
                "This model has no vae_encoder, which it takes to begin with a picture; `swarmkernel export-onnx`"
                " writes one.",
                "unsupported_model",
            )
        return np.concatenate(encode(encoder, vae, pixels[None], self.channels))

    def decode(self, job: ImageJob, vae: Vae, latents: Array) -> Array:
        """The picture of finished latents, in the size that was asked for."""
        return decode(vae, latents, (job.height, job.width))

    def draw(self, latents: Array) -> Any:
        """A rough picture of latents, by a map that is fitted to the VAE's encoder at the first call, if there is one."""
        if self._previewer is None:
            encoder = self._encoder()
            if encoder is None:
                return None
            self._previewer = Previewer.fit(encoder, self.parts.vae, self.channels)
        return self._previewer.draw(latents)

    def _encoder(self) -> Graph | None:
        """The VAE's encoder, loaded when it is first asked for; None if the model has none."""
        if self._loaded_encoder is None:
            self._loaded_encoder = load_encoder(self.parts.vae)
        return self._loaded_encoder

    def _predict(self, x: Array, timesteps: Array, rows: list[Conditioning]) -> Array:
        unet = self.parts.unet
        fed = {"sample": x, "timestep": _times(unet.inputs["timestep"], timesteps)}
        found = unet.run(("out_sample",), fed | self._conditioned(rows))[0]
        return found.astype(np.float32, copy=False)

    def _conditioned(self, rows: list[Conditioning]) -> dict[str, Any]:
        """The rows' conditioning, on the device; a batch that goes on as it is finds it there."""
        key = tuple(map(id, rows))
        if key not in self._stacked:
            fed = {name: self.parts.unet.put(name, values) for name, values in stack(rows).items()}
            self._stacked[key] = (rows, fed)  # the rows too, so that none gets the id of another
            if len(self._stacked) > _STACKED:
                self._stacked.popitem(last=False)
        self._stacked.move_to_end(key)
        return self._stacked[key][1]


def _times(wanted: Input, timesteps: Array) -> Array:
    """The timesteps as the graph wants them: one per row or one for all, to the nearest whole one where it must be."""
    if wanted.is_one:
        timesteps = timesteps[:1].reshape([1] * len(wanted.shape))
    return np.asarray(np.rint(timesteps)) if np.issubdtype(wanted.dtype, np.integer) else timesteps
