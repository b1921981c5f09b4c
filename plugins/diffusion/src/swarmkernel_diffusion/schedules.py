"""Trained noise levels, and the sigmas that a picture visits.

All sampling happens in the variance-exploding variable of Karras et al. 2022 (arXiv:2206.00364):
`x = x0 + sigma * noise`, where `sigma = sqrt((1 - abar) / abar)` for a model trained with cumulative alphas `abar`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from swarmkernel_diffusion.checks import check_choice, check_number, check_whole
from swarmkernel_diffusion.errors import DiffusionError

Floats: TypeAlias = NDArray[np.float64]

_ZERO_SNR = 2.0**-24  # stands for the 0 of a zero terminal SNR, whose sigma would be infinite
_RHO = 7.0
MAX_TRAINED = 100_000
"""How many timesteps a model may say that it was trained on: published ones have 1000."""


def _as_floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


@attrs.frozen(eq=False)
class NoiseSchedule:
    """The noise levels that a model was trained on.

    `alphas_cumprod` has one value per trained timestep, shape (T,), strictly falling within (0, 1).
    """

    alphas_cumprod: Floats = attrs.field(converter=_as_floats)
    sigmas: Floats = attrs.field(init=False, repr=False)
    """sqrt((1 - abar) / abar) by timestep, rising, shape (T,)."""

    @alphas_cumprod.validator
    def _check(self, _attribute: object, value: Floats) -> None:
        falling = value.ndim == 1 and value.size > 1 and bool((np.diff(value) < 0).all())
        if not falling or not 0 < value[-1] <= value[0] < 1:
            raise DiffusionError("alphas_cumprod must fall strictly from below 1 to above 0")

    @sigmas.default
    def _sigmas(self) -> Floats:
        abar = self.alphas_cumprod
        with np.errstate(all="ignore"):  # the validator speaks after this
            return np.sqrt((1 - abar) / abar)

    @classmethod
    def from_betas(
        cls,
        start: float,
        end: float,
        kind: str = "scaled_linear",
        steps: int = 1000,
        *,
        zero_snr: bool = False,
    ) -> "NoiseSchedule":
        """A schedule by the names of diffusers' scheduler configurations.

        `linear` is DDPM's (arXiv:2006.11239), `scaled_linear` latent diffusion's (arXiv:2112.10752),
        `squaredcos_cap_v2` improved DDPM's (arXiv:2102.09672), which ignores start and end.
        `zero_snr` rescales to zero terminal SNR (arXiv:2305.08891, algorithm 1).
        """
        check_choice("beta schedule", kind, _BETAS)
        check_whole("number of trained timesteps", steps, 2, MAX_TRAINED)
        check_number("beta start", start, 0, 1)
        check_number("beta end", end, 0, 1)
        return cls._from_beta_array(_BETAS[kind](start, end, steps), zero_snr=zero_snr)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
        """The schedule of a diffusers `scheduler_config.json`; absent keys have diffusers' defaults."""
        zero_snr = bool(config.get("rescale_betas_zero_snr"))
        if config.get("trained_betas") is not None:
            return cls._from_beta_array(_trained(config["trained_betas"]), zero_snr=zero_snr)
        return cls.from_betas(
            config.get("beta_start", 0.0001),
            config.get("beta_end", 0.02),
            config.get("beta_schedule", "linear"),
            config.get("num_train_timesteps", 1000),
            zero_snr=zero_snr,
        )

    @classmethod
    def _from_beta_array(cls, betas: Floats, *, zero_snr: bool) -> "NoiseSchedule":
        abar = np.cumprod(1 - betas)
        if zero_snr:
            root = np.sqrt(abar)
            abar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
            abar[-1] = _ZERO_SNR
        return cls(abar)

    @property
    def steps(self) -> int:
        """How many timesteps the model was trained on."""
        return len(self.sigmas)

    def sigma(self, timestep: ArrayLike) -> Floats:
        """Sigma at timesteps that may lie between trained ones: interpolated linearly in log sigma."""
        return _as_floats(np.exp(np.interp(_as_floats(timestep), np.arange(self.steps), np.log(self.sigmas))))

    def timestep(self, sigma: ArrayLike) -> Floats:
        """The inverse of `sigma`, held within the trained range."""
        return _as_floats(np.interp(np.log(sigma), np.log(self.sigmas), np.arange(self.steps)))

    def schedule(self, name: str, steps: int) -> Floats:
        """The falling sigmas of a whole run: `steps` levels and a final 0, shape (steps + 1,)."""
        check_choice("schedule", name, SCHEDULES)
        check_whole("steps", steps, 1, self.steps)
        levels = _SCHEDULES[name][1](self, steps)
        return np.append(levels, 0.0)


def _trained(betas: object) -> Floats:
    if not isinstance(betas, list | tuple):
        raise DiffusionError(f"trained betas must be a list, not {betas!r:.40}")
    check_whole("number of trained betas", len(betas), 2, MAX_TRAINED)
    for beta in betas:
        check_number("trained beta", beta, 0, 1)
    return _as_floats(betas)


def _squared_cosine(_start: float, _end: float, steps: int) -> Floats:
    abar = np.cos((np.linspace(0, 1, steps + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
    return _as_floats(np.minimum(1 - abar[1:] / abar[:-1], 0.999))


_BETAS: dict[str, Callable[[float, float, int], Floats]] = {
    "linear": np.linspace,
    "scaled_linear": lambda start, end, steps: np.linspace(start**0.5, end**0.5, steps) ** 2,
    "squaredcos_cap_v2": _squared_cosine,
}


def _normal(trained: NoiseSchedule, steps: int) -> Floats:
    """Timesteps evenly from the last to the first, both visited, as k-diffusion and ComfyUI space them."""
    return trained.sigma(np.linspace(trained.steps - 1, 0, steps))


def _sgm_uniform(trained: NoiseSchedule, steps: int) -> Floats:
    """Timesteps evenly from the last towards the first, which is left out."""
    return trained.sigma(np.linspace(trained.steps - 1, 0, steps + 1)[:-1])


def _simple(trained: NoiseSchedule, steps: int) -> Floats:
    """Every (T / steps)-th trained sigma, counted from the noisy end."""
    back = np.arange(steps) * trained.steps // steps
    return trained.sigmas[trained.steps - 1 - back]


def _karras(trained: NoiseSchedule, steps: int) -> Floats:
    """Evenly in sigma^(1/7): equation 5 of arXiv:2206.00364 over the trained range."""
    first, last = trained.sigmas[-1] ** (1 / _RHO), trained.sigmas[0] ** (1 / _RHO)
    return _as_floats(np.linspace(first, last, steps) ** _RHO)


def _exponential(trained: NoiseSchedule, steps: int) -> Floats:
    """Evenly in log sigma over the trained range."""
    return _as_floats(np.geomspace(trained.sigmas[-1], trained.sigmas[0], steps))


_SCHEDULES: dict[str, tuple[str, Callable[[NoiseSchedule, int], Floats]]] = {
    "normal": ("Normal", _normal),
    "karras": ("Karras", _karras),
    "exponential": ("Exponential", _exponential),
    "simple": ("Simple", _simple),
    "sgm_uniform": ("SGM Uniform", _sgm_uniform),
}

SCHEDULES: Mapping[str, str] = MappingProxyType({name: label for name, (label, _) in _SCHEDULES.items()})
"""The sigma schedules that can be asked for: id to label."""
