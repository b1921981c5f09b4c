"""What plugins offer to one another, found by type."""

from __future__ import annotations

import asyncio
from typing import TypeVar, cast

import attrs

from swarmkernel.errors import StartupError

T = TypeVar("T")


class Stopping(asyncio.Event):
    """Set when the server has been told to stop: begin nothing new, let what runs end. A service of the kernel."""


@attrs.define
class Services:
    """One object per type. A plugin adds its own before its lifespan yields."""

    _by_type: dict[type, object] = attrs.field(factory=dict, init=False)

    def add(self, kind: type[T], service: T) -> None:
        """Offer *service* as the one *kind*; a second one stops the server."""
        if kind in self._by_type:
            raise StartupError(f"two plugins offer {kind.__qualname__}")
        self._by_type[kind] = service

    def get(self, kind: type[T]) -> T:
        """The *kind*, or LookupError if no plugin offers it."""
        try:
            return cast("T", self._by_type[kind])
        except KeyError:
            raise LookupError(f"no plugin offers {kind.__qualname__}") from None

    def find(self, kind: type[T]) -> T | None:
        """The *kind*, or None if no plugin offers it."""
        return cast("T | None", self._by_type.get(kind))

    def snapshot(self) -> dict[type, object]:
        """What is offered now, for `restore`."""
        return dict(self._by_type)

    def restore(self, snapshot: dict[type, object]) -> None:
        """Forget what was offered since *snapshot* (by a plugin that failed)."""
        self._by_type = snapshot
