"""A base for samplers of latent diffusion models: from a job to what the engine is asked for."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import attrs

from swarmkernel_t2i_api.sampling import BatchSampler
from swarmkernel_t2i_api.types import ImageJob

if TYPE_CHECKING:
    from swarmkernel_t2i_api.init_picture import InitPicture


class Prompts(Protocol):
    """What encodes prompts, as `PromptEncoder` of swarmkernel-diffusion does."""

    def pieces(self, text: str) -> int:
        """How many pieces a text needs."""

    def encode(self, text: str, pieces: int, stop_at: int | None, size: tuple[int, int]) -> Any:
        """The conditioning of a text in so many pieces, for a picture of that height and width."""


@attrs.define(eq=False)
class LatentSampler(BatchSampler):
    """
    A `BatchSampler` whose engine moves latents that stand for pixels.

    A subclass sets `text` besides `engine`, and says what its networks make of pictures. *make* is what the engine is
    asked for: `Sample` of swarmkernel-diffusion, or what takes the same values.
    """

    make: ClassVar[Callable[..., Any]]
    text: Prompts = attrs.field(init=False)

    @property
    @abstractmethod
    def channels(self) -> int:
        """How many channels latents have."""

    @abstractmethod
    def scale(self, vae: Any) -> int:
        """Pixels per latent, in each direction."""

    @abstractmethod
    def encode(self, vae: Any, pixels: Any) -> Any:
        """The latents (channels, height, width) of a float32 array (3, height, width) of -1 to 1, of whole latents."""

    def sample(self, job: ImageJob, vae: Any, init: InitPicture | None) -> Any:
        """What the engine is asked for, the prompts and the init image encoded."""
        guided = job.cfg_scale != 1
        prompts = [job.prompt, job.negative_prompt] if guided else [job.prompt]
        pieces = max(map(self.text.pieces, prompts))
        size, scale = (job.height, job.width), self.scale(vae)
        encoded = [self.text.encode(text, pieces, job.clip_stop_at_layer, size) for text in prompts]
        return self.make(
            id=job.id,
            # Rounded up: decode() cuts the picture to the size that was asked for.
            shape=(self.channels, *(math.ceil(side / scale) for side in size)),
            cond=encoded[0],
            uncond=encoded[1] if guided else None,
            seed=job.seed,
            steps=job.steps,
            cfg_scale=job.cfg_scale,
            sampler=job.sampler,
            schedule=job.scheduler,
            variation_seed=job.variation_seed or 0,
            variation_strength=0.0 if job.variation_seed is None else job.variation_strength,
            group=pieces,
            **({} if init is None else self._from(init, job, vae)),
        )

    def _from(self, init: InitPicture, job: ImageJob, vae: Any) -> dict[str, Any]:
        """Where sampling begins, and what it is held to."""
        mask = init.latent_mask(self.scale(vae))
        if mask is None and job.init_creativity >= 1:
            return {}
        latents = self.encode(vae, init.padded(self.scale(vae)))
        values = {} if mask is None else {"mask": mask, "keep": latents}
        if job.init_creativity < 1:
            start = min(round(job.steps * (1 - job.init_creativity)), job.steps - 1)
            values |= {"init": latents, "start_step": start}
        return values
