"""Live counters per session: how much a session still waits for."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

import attrs

COUNTERS: Final = ("waiting_gens", "loading_models", "waiting_backends", "live_gens")


def _zeros() -> dict[str, int]:
    return dict.fromkeys(COUNTERS, 0)


@attrs.define(eq=False)
class Claim:
    """One request's share of its session's counters; closing it gives back whatever remains. Also a context manager."""

    session_id: str
    _claims: "Claims"
    _held: dict[str, int] = attrs.field(factory=_zeros, init=False)

    def change(self, **deltas: int) -> None:
        """Add to counters, by name: ``claim.change(waiting_backends=-1, live_gens=1)``."""
        for name, delta in deltas.items():
            self._held[name] += delta
        self._claims.add(self.session_id, deltas)

    def close(self) -> None:
        """Give back what is still held. Closing twice is harmless."""
        self.change(**{name: -value for name, value in self._held.items() if value})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@attrs.define(eq=False)
class Claims:
    """The service that keeps the four counters of each session."""

    _counts: dict[str, dict[str, int]] = attrs.field(factory=dict, init=False)
    _listeners: dict[str, set[asyncio.Event]] = attrs.field(factory=lambda: defaultdict(set), init=False)

    def counts(self, session_id: str) -> dict[str, int]:
        """The four counters of a session."""
        return dict(self._counts.get(session_id) or _zeros())

    def total(self, name: str) -> int:
        """One counter over all sessions."""
        return sum(counts[name] for counts in self._counts.values())

    def open(self, session_id: str, **counts: int) -> Claim:
        """A new claim that starts with these counts."""
        claim = Claim(session_id, self)
        claim.change(**counts)
        return claim

    @contextmanager
    def listen(self, session_id: str) -> Iterator[asyncio.Event]:
        """An event that is set each time a counter of the session changes; the listener clears it."""
        event = asyncio.Event()
        self._listeners[session_id].add(event)
        try:
            yield event
        finally:
            self._listeners[session_id].discard(event)
            if not self._listeners[session_id]:
                del self._listeners[session_id]

    def add(self, session_id: str, deltas: dict[str, int]) -> None:
        """Change a session's counters and tell its listeners; a session whose counters are all zero is forgotten."""
        if not any(deltas.values()):
            return
        counts = self._counts.setdefault(session_id, _zeros())
        for name, delta in deltas.items():
            counts[name] += delta
        if not any(counts.values()):
            del self._counts[session_id]
        for event in self._listeners.get(session_id, ()):
            event.set()
