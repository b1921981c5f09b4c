"""A picture's whole run as a table of numbers, made once, when the picture is admitted."""

import math

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from swarmkernel_diffusion.checks import check_choice, check_whole
from swarmkernel_diffusion.errors import DiffusionError
from swarmkernel_diffusion.samplers import SAMPLERS, sampler_calls
from swarmkernel_diffusion.schedules import Floats, NoiseSchedule

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What a network's output can mean; the names are diffusers' `prediction_type`."""

COLUMNS = ("timestep", "c_in", "c_skip", "c_out", "a", "b", "c", "n", "p", "q", "to")
"""A plan's columns: the network sees c_in * x at timestep, D = c_skip * x + c_out * output, a to q are `Call`'s,
and x' is at the sigma `to`."""


@attrs.frozen(eq=False)
class Plan:
    """What happens to one picture at each of its model calls."""

    table: NDArray[np.float32]
    """One row per model call, shape (calls, len(COLUMNS))."""
    step_of: tuple[int, ...]
    """The step that each call belongs to, counted from the schedule's start."""
    steps: int
    """How many steps the whole schedule has."""
    sigma: float
    """The sigma that the picture starts at."""

    @classmethod
    def from_sigmas(
        cls,
        sampler: str,
        sigmas: ArrayLike,
        timesteps: ArrayLike,
        *,
        prediction: str = "epsilon",
        start_step: int = 0,
    ) -> "Plan":
        """A plan over sigmas of the caller's own, shape (steps + 1,), falling to 0, with the timesteps of all but that 0."""
        check_choice("sampler", sampler, SAMPLERS)
        check_choice("prediction type", prediction, PREDICTIONS)
        levels, times = _checked_levels(sigmas, timesteps)
        steps = len(times)
        check_whole("start step", start_step, 0, steps - 1)
        levels, times = levels[start_step:], times[start_step:]
        calls = list(sampler_calls(sampler, levels, times))
        table = [
            (
                times[k.at],
                *_preconditioning(levels[k.at], prediction),
                k.a,
                k.b,
                k.c,
                k.n,
                k.p,
                k.q,
                levels[k.step + 1],
            )
            for k in calls
        ]
        step_of = tuple(start_step + call.step for call in calls)
        return cls(np.asarray(table, dtype=np.float32), step_of, steps, levels[0])

    def steps_done(self, calls: int) -> int:
        """How many steps of the schedule are behind a picture after so many of its calls."""
        return self.step_of[calls] if calls < len(self.step_of) else self.steps


def make_plan(
    sampler: str,
    noise_schedule: NoiseSchedule,
    *,
    schedule: str = "normal",
    steps: int = 20,
    start_step: int = 0,
    prediction: str = "epsilon",
) -> Plan:
    """The plan of a sampler over a named schedule, from `start_step` on."""
    sigmas = noise_schedule.schedule(schedule, steps)
    timesteps = noise_schedule.timestep(sigmas[:-1])
    return Plan.from_sigmas(sampler, sigmas, timesteps, prediction=prediction, start_step=start_step)


def _checked_levels(sigmas: ArrayLike, timesteps: ArrayLike) -> tuple[list[float], list[float]]:
    levels: Floats = np.asarray(sigmas, dtype=np.float64)
    times: Floats = np.asarray(timesteps, dtype=np.float64)
    if levels.ndim != 1 or levels.size < 2 or times.shape != (levels.size - 1,):
        raise DiffusionError(
            "sigmas must have shape (steps + 1,) and timesteps shape (steps,), with at least one step"
        )
    if not np.isfinite(levels).all() or levels[-1] != 0 or not (np.diff(levels) < 0).all():
        raise DiffusionError("sigmas must be finite, fall strictly and end in 0")
    return levels.tolist(), times.tolist()


def _preconditioning(sigma: float, prediction: str) -> tuple[float, float, float]:
    """c_in, c_skip and c_out at a sigma, from x0 + sigma * noise = sqrt(sigma^2 + 1) * (the network's input).

    v-prediction is `v = (noise - sigma * x0) / sqrt(sigma^2 + 1)` (arXiv:2202.00512, appendix D).
    """
    root = math.sqrt(sigma * sigma + 1)
    skip, out = {
        "epsilon": (1.0, -sigma),
        "v_prediction": (1 / root**2, -sigma / root),
        "sample": (0.0, 1.0),
    }[prediction]
    return 1 / root, skip, out
