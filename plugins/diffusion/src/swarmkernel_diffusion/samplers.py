"""Samplers as tables: what happens to a picture at each model call is linear, so it is a few numbers.

With the picture x, its denoised estimate D (the model's x0), one history slot h and fresh noise z, a call does

    x' = a x + b D + c h + n z        h' = p x + q D

Sigmas fall and end in 0; s is the sigma of the call and t the one it goes to.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

import attrs

_LCM_DATA_VARIANCE = 0.25
_LCM_TIMESTEP_SCALING = 10.0


@attrs.frozen
class Call:
    """One model call of a sampler: the step that it belongs to, the sigma it happens at, and its update."""

    step: int
    at: int
    """Index into the sigmas."""
    a: float
    b: float
    c: float = 0.0
    n: float = 0.0
    p: float = 0.0
    q: float = 0.0


Calls: TypeAlias = Iterator[Call]
Sampler: TypeAlias = Callable[[Sequence[float], Sequence[float]], Calls]
"""Sigmas (steps + 1, the last 0) and the timesteps of the first `steps` of them, to calls."""


def _euler(sigmas: Sequence[float], _timesteps: Sequence[float], *, eta: float) -> Calls:
    """Euler's method on dx/ds = (x - D) / s, with a share `eta` of each step's noise drawn afresh.

    eta 0 is Euler's method of arXiv:2206.00364 and, in this variable, exactly DDIM (arXiv:2010.02502,
    equation 14); eta 1 is equation 16 of the same paper with its eta 1, which k-diffusion named ancestral.
    """
    for i, (s, t) in enumerate(pairwise(sigmas)):
        up = eta * t * math.sqrt(1 - (t / s) ** 2)
        down = math.sqrt(t * t - up * up)
        yield Call(i, i, a=down / s, b=1 - down / s, n=up)


def _heun(sigmas: Sequence[float], _timesteps: Sequence[float]) -> Calls:
    """Heun's method: algorithm 1 of arXiv:2206.00364 without churn; two calls a step, but for the last.

    The first call goes to t by Euler and keeps the slope, h = (x - D) / s. The second, at t, finds the slope there
    and replaces half of the first: x' = x + (t - s) / 2 * ((x - D) / t - h).
    """
    for i, (s, t) in enumerate(pairwise(sigmas)):
        yield Call(i, i, a=t / s, b=1 - t / s, p=1 / s, q=-1 / s)
        if t > 0:
            half = (t - s) / 2
            yield Call(i, i + 1, a=1 + half / t, b=-half / t, c=-half)


def _dpmpp_2m(sigmas: Sequence[float], _timesteps: Sequence[float], *, eta: float) -> Calls:
    """DPM-Solver++(2M), algorithm 2 of arXiv:2211.01095; with eta 1 its SDE form, equation 18, by midpoint.

    h is the previous D. The first step and the last, which goes to 0, are of first order.
    """
    before = None
    for i, (s, t) in enumerate(pairwise(sigmas)):
        width = math.log(s / t) if t > 0 else math.inf
        gain = -math.expm1(-(1 + eta) * width)
        extra = 0.0 if before is None or t == 0 else gain * width / (2 * before)
        fresh = t * math.sqrt(-math.expm1(-2 * eta * width)) if t > 0 else 0.0
        yield Call(i, i, a=1 - gain, b=gain + extra, c=-extra, n=fresh, q=1.0)
        before = width


def _lcm(sigmas: Sequence[float], timesteps: Sequence[float]) -> Calls:
    """Multistep latent consistency sampling: algorithm 3 of arXiv:2310.04378 with its boundary condition.

    The consistency function is c_skip x + c_out D on the variance-preserving x, that is x / sqrt(s^2 + 1).
    """
    for i, (s, t) in enumerate(pairwise(sigmas)):
        scaled = timesteps[i] * _LCM_TIMESTEP_SCALING
        c_skip = _LCM_DATA_VARIANCE / (scaled**2 + _LCM_DATA_VARIANCE)
        c_out = scaled / math.sqrt(scaled**2 + _LCM_DATA_VARIANCE)
        yield Call(i, i, a=c_skip / math.sqrt(s * s + 1), b=c_out, n=t)


_SAMPLERS: dict[str, tuple[str, Sampler]] = {
    "euler": ("Euler", partial(_euler, eta=0.0)),
    "euler_ancestral": ("Euler Ancestral", partial(_euler, eta=1.0)),
    "heun": ("Heun", _heun),
    "dpmpp_2m": ("DPM++ 2M", partial(_dpmpp_2m, eta=0.0)),
    "dpmpp_2m_sde": ("DPM++ 2M SDE", partial(_dpmpp_2m, eta=1.0)),
    "ddim": ("DDIM", partial(_euler, eta=0.0)),
    "lcm": ("LCM", _lcm),
}

SAMPLERS: Mapping[str, str] = MappingProxyType({name: label for name, (label, _) in _SAMPLERS.items()})
"""The samplers that can be asked for: id to label."""


def sampler_calls(name: str, sigmas: Sequence[float], timesteps: Sequence[float]) -> Calls:
    """The model calls of a known sampler over these sigmas."""
    return _SAMPLERS[name][1](sigmas, timesteps)
