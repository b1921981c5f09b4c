"""The server-wide state of backends in one line, and what they can do together."""

from swarmkernel_backend_api.backends import Backends
from swarmkernel_backend_api.types import Status

_READY = {Status.RUNNING}
_STARTING = {Status.LOADING, Status.WAITING}


def backend_status(backends: Backends) -> dict[str, object]:
    """The ``backend_status`` of ``GetCurrentStatus``: the first row that holds.

    Errored backends that are switched off are not counted as errored: the administrator has dealt with them.
    """
    slots = list(backends)
    statuses = [slot.status for slot in slots]
    loading = any(status in _STARTING for status in statuses)
    running = Status.RUNNING in statuses
    if not slots:
        return _row("empty", "error", "No backends exist. Add one to generate.")
    if not any(slot.enabled for slot in slots):
        return _row("all_disabled", "error", "All backends are switched off.")
    if any(slot.status is Status.ERRORED and slot.enabled for slot in slots):
        return _row("errored", "error", "Some backends failed. See the server's log.", loading=loading)
    if running and loading:
        return _row(
            "some_loading", "warn", "Some backends are ready, others are still starting.", loading=True
        )
    if running:
        return _row("running", "", "")
    if loading:
        return _row("loading", "soft", "Backends are still starting.", loading=True)
    if Status.DISABLED in statuses:
        return _row("disabled", "warn", "Some backends are off. Enable or configure them.")
    if Status.IDLE in statuses:
        return _row("idle", "warn", "All backends are idle: what they connect to is out of reach.")
    return _row("unknown", "error", "The state of the backends is unknown.")


def _row(status: str, kind: str, message: str, *, loading: bool = False) -> dict[str, object]:
    return {"status": status, "class": kind, "message": message, "any_loading": loading}


def supported_features(backends: Backends) -> list[str]:
    """The feature ids of all backends that are enabled and not idle."""
    return list(
        dict.fromkeys(
            f for slot in backends if slot.enabled and slot.status is not Status.IDLE for f in slot.features
        )
    )


def count_running(backends: Backends) -> int:
    """How many backends run or are on the way."""
    return sum(slot.status in {Status.RUNNING, Status.LOADING} for slot in backends)
