"""Checks of what callers hand in, with texts that a user can act on."""

import math
from collections.abc import Iterable

from swarmkernel_diffusion.errors import DiffusionError


def check_choice(what: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a name that is not among the choices."""
    known = list(choices)
    if value not in known:
        raise DiffusionError(f"unknown {what} {value!r}: choose one of {', '.join(known)}")


def check_whole(what: str, value: object, low: int, high: int | None = None) -> None:
    """Refuse what is not a whole number from `low` to `high`, both included."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise DiffusionError(f"{what} must be a whole number, not {value!r}")
    if value < low or (high is not None and value > high):
        limit = f"at least {low}" if high is None else f"between {low} and {high}"
        raise DiffusionError(f"{what} must be {limit}, not {value}")


def check_number(what: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse what is not a finite number from `low` to `high`, both included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DiffusionError(f"{what} must be a finite number, not {value!r}")
    if not low <= value <= high:
        raise DiffusionError(f"{what} must be between {low:g} and {high:g}, not {value:g}")
