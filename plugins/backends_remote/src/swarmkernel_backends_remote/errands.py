"""What a backend does while nobody waits for it, such as passing on an interrupt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import attrs

from swarmkernel_backends_remote.errors import PeerLostError

#: How long who stops waits for what is under way: interrupts that should arrive.
LAST_SECONDS: Final = 1.5
#: How long to wait between tries of what must get through.
PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 60.0)


async def insist(work: Callable[[], Awaitable[None]]) -> None:
    """Do something that must get through, again and again while the server is lost, for some minutes."""
    for pause in PAUSES:
        try:
            return await work()
        except PeerLostError:
            await asyncio.sleep(pause)
    return await work()


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
