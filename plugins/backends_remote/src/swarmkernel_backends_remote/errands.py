"""What a backend does while nobody waits for it, such as passing on an interrupt."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import attrs

#: How long who stops waits for what is under way: interrupts that should arrive.
LAST_SECONDS: Final = 1.5


@attrs.define(eq=False)
class Errands:
    """Tasks that are under way."""

    _tasks: set[asyncio.Task[Any]] = attrs.field(factory=set, init=False)

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin something."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Give what is under way some time to end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS)
