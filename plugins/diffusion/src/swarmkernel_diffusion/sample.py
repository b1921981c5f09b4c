"""What a caller asks the engine for."""

from collections.abc import Hashable, Iterable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from swarmkernel_diffusion.arrays import Array
from swarmkernel_diffusion.checks import check_choice, check_number, check_whole
from swarmkernel_diffusion.errors import DiffusionError
from swarmkernel_diffusion.noise import MAX_SEED
from swarmkernel_diffusion.samplers import SAMPLERS
from swarmkernel_diffusion.schedules import SCHEDULES


def _sizes(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(shape)


@attrs.frozen(eq=False, kw_only=True)
class Sample:
    """One picture to sample; refused with `DiffusionError` when a value makes no sense."""

    id: Hashable
    """The caller's name for it, unique among the active ones."""
    shape: tuple[int, ...] = attrs.field(converter=_sizes)
    """The latent's shape without the batch axis, such as (4, 64, 64)."""
    cond: Any
    """The conditioning, handed to `predict` as it is."""
    uncond: Any = None
    """The unconditional (or negative) conditioning; not needed with CFG scale 1."""
    seed: int = 0
    steps: int = 20
    cfg_scale: float = 7.0
    """Classifier-free guidance scale (arXiv:2207.12598 in the form u + scale * (c - u)); 1 runs `cond` alone."""
    sampler: str = "euler"
    schedule: str = "normal"
    start_step: int = 0
    """The first step of the schedule that is run; above 0 it needs `init`."""
    init: Array | None = None
    """A clean latent of this shape to start from, float32, an array of the engine's kind."""
    mask: NDArray[np.float32] | None = None
    """How much each latent may change, from 0 to 1, on the host: shape (1, *shape[1:]), the same for all channels."""
    keep: Array | None = None
    """What latents are where the mask is 0: a clean latent as `init` is one. It goes with `mask`."""
    variation_seed: int = 0
    variation_strength: float = 0.0
    """How far, from 0 to 1, the initial noise goes from the seed's to the variation seed's."""
    group: Hashable = None
    """What else must be equal, besides the shape, for two samples to share a forward pass."""

    @property
    def guided(self) -> bool:
        """Whether a forward pass needs the unconditional row too."""
        return self.cfg_scale != 1

    def __attrs_post_init__(self) -> None:
        check_choice("sampler", self.sampler, SAMPLERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_whole("steps", self.steps, 1)
        check_whole("start step", self.start_step, 0, self.steps - 1)
        check_whole("seed", self.seed, 0, MAX_SEED)
        check_whole("variation seed", self.variation_seed, 0, MAX_SEED)
        check_number("CFG scale", self.cfg_scale)
        check_number("variation strength", self.variation_strength, 0, 1)
        self._check_shape()
        self._check_mask()
        if self.guided and self.uncond is None:
            raise DiffusionError("a CFG scale other than 1 needs an unconditional conditioning")

    def _check_shape(self) -> None:
        for size in self.shape:
            check_whole("latent size", size, 1)
        _check_latent("initial", self.init, self.shape)
        if self.init is None and self.start_step > 0:
            raise DiffusionError("a start step above 0 needs an initial latent")

    def _check_mask(self) -> None:
        if (self.mask is None) != (self.keep is None):
            raise DiffusionError("a mask and the latent to keep go together: there is only one of them")
        _check_latent("kept", self.keep, self.shape)
        if self.mask is None:
            return
        wanted = (1, *self.shape[1:])
        if self.mask.shape != wanted or self.mask.dtype != np.float32:
            raise DiffusionError(
                f"the mask must be float32 of shape {wanted}, not {self.mask.dtype} of shape {self.mask.shape}"
            )
        if not ((self.mask >= 0) & (self.mask <= 1)).all():
            raise DiffusionError("the mask must be between 0 and 1")


def _check_latent(what: str, latent: Array | None, shape: tuple[int, ...]) -> None:
    if latent is not None and tuple(latent.shape) != shape:
        raise DiffusionError(f"the {what} latent has shape {tuple(latent.shape)}, not {shape}")
