"""The server-wide status line, the features, and the words for a time."""

from typing import Any

import attrs
import pytest

from swarmkernel import MemoryStore
from swarmkernel_backend_api import (
    BackendApiSettings,
    Backends,
    BackendSlot,
    Status,
    backend_status,
    count_running,
    supported_features,
)
from swarmkernel_backend_api.records import Records
from swarmkernel_backend_api.slot import since
from swarmkernel_backend_api.testing import SYNTHETIC
from swarmkernel_backend_api.testing.harness import VAULT

R, L, W, E, D, N = (
    Status.RUNNING,
    Status.LOADING,
    Status.WAITING,
    Status.ERRORED,
    Status.DISABLED,
    Status.IDLE,
)


def backends_with(*states: tuple[Status, bool]) -> Backends:
    backends = Backends({}, BackendApiSettings(), Records.of(MemoryStore(), VAULT))
    for number, (status, enabled) in enumerate(states):
        kind = attrs.evolve(SYNTHETIC, features=("common", status.value))
        slot = BackendSlot(
            number, kind, SYNTHETIC.settings(), backends.notify, status=status, enabled=enabled
        )
        backends._slots[number] = slot
    return backends


def on(*statuses: Status) -> list[tuple[Status, bool]]:
    return [(status, True) for status in statuses]


@pytest.mark.parametrize(
    ("states", "status", "kind", "any_loading"),
    [
        ([], "empty", "error", False),
        ([(D, False)], "all_disabled", "error", False),
        ([(E, False)], "all_disabled", "error", False),
        (on(E, R), "errored", "error", False),
        (on(E, R, L), "errored", "error", True),
        ([(E, False), (R, True)], "running", "", False),
        (on(R, L), "some_loading", "warn", True),
        (on(R, W), "some_loading", "warn", True),
        (on(R, D, N), "running", "", False),
        (on(L, D), "loading", "soft", True),
        (on(W), "loading", "soft", True),
        (on(D, N), "disabled", "warn", False),
        (on(N), "idle", "warn", False),
        ([(E, False), (N, True)], "idle", "warn", False),
    ],
)
def test_the_first_row_that_holds(states: list[Any], status: str, kind: str, any_loading: bool) -> None:
    """The status of all backends together is that of the first matching row; switched-off failures do not count."""
    row = backend_status(backends_with(*states))
    assert (status, kind, any_loading) == (row["status"], row["class"], row["any_loading"])
    assert (kind == "") == (row["message"] == "")


def test_features_of_enabled_backends_that_are_not_idle() -> None:
    """Supported features are the union over enabled backends that are not idle, each once."""
    backends = backends_with((R, True), (E, True), (L, False), (N, True))
    assert ["common", "running", "errored"] == supported_features(backends)


def test_running_and_loading_are_counted() -> None:
    """The count of older clients has running and loading backends."""
    assert 2 == count_running(backends_with(*on(R, L, W, E, D, N)))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "Never"),
        (0.4, "0 seconds from now"),
        (1, "1 second ago"),
        (303.9, "5 minutes and 3 seconds ago"),
        (3600, "1 hour ago"),
        (3605, "1 hour ago"),
        (90061, "1 day and 1 hour ago"),
    ],
)
def test_times_in_words(seconds: float | None, words: str) -> None:
    """A time of last use is told in at most two neighbouring units."""
    assert words == since(seconds)
