"""What a caller asks the engine for."""

from collections.abc import Hashable, Iterable
from typing import Any

import attrs

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
        if self.guided and self.uncond is None:
            raise DiffusionError("a CFG scale other than 1 needs an unconditional conditioning")

    def _check_shape(self) -> None:
        for size in self.shape:
            check_whole("latent size", size, 1)
        if self.init is not None and tuple(self.init.shape) != self.shape:
            raise DiffusionError(f"the initial latent has shape {tuple(self.init.shape)}, not {self.shape}")
        if self.init is None and self.start_step > 0:
            raise DiffusionError("a start step above 0 needs an initial latent")
