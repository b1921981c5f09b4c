"""The server-wide state of backends in one line, and what they can do together."""

from swarmkernel_backend_api.backends import Backends
from swarmkernel_backend_api.types import Status


def backend_status(backends: Backends) -> dict[str, object]:
    """The ``backend_status`` of ``GetCurrentStatus``: the first row that holds.

    Errored backends that are switched off are not counted as errored: the administrator has dealt with them.
    """
    slots = list(backends)
    statuses = {slot.status for slot in slots}
    loading = not statuses.isdisjoint({Status.LOADING, Status.WAITING})
    running = Status.RUNNING in statuses
    errored = any(slot.status is Status.ERRORED and slot.enabled for slot in slots)
    rows = (
        (not slots, "empty", "error", "No backends exist. Add one to generate."),
        (not any(slot.enabled for slot in slots), "all_disabled", "error", "All backends are switched off."),
        (errored, "errored", "error", "Some backends failed. See the server's log."),
        (running and loading, "some_loading", "warn", "Some backends are ready, others are still starting."),
        (running, "running", "", ""),
        (loading, "loading", "soft", "Backends are still starting."),
        (Status.DISABLED in statuses, "disabled", "warn", "Some backends are off. Enable or configure them."),
        (
            Status.IDLE in statuses,
            "idle",
            "warn",
            "All backends are idle: what they connect to is out of reach.",
        ),
        (True, "unknown", "error", "The state of the backends is unknown."),
    )
    status, kind, message = next(row[1:] for row in rows if row[0])
    any_loading = loading and status in {"errored", "some_loading", "loading"}
    return {"status": status, "class": kind, "message": message, "any_loading": any_loading}


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
