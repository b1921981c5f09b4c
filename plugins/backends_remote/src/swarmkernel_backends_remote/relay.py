"""Work that goes on elsewhere, followed by a task of its own so that it can be ended from anywhere at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import attrs

from swarmkernel_backends_remote.errors import PeerLostError

#: Replies that wait to be passed on; a server that sends more has to wait.
_ROOM: Final = 8


@attrs.frozen
class _End:
    """How it ended."""

    error: BaseException | None = None


@attrs.define(eq=False)
class Relay:
    """Passes on what `source` gives, for at most `seconds`."""

    source: AsyncGenerator[Any, None]
    seconds: float
    task: asyncio.Task[None] = attrs.field(init=False)
    _queue: asyncio.Queue[Any] = attrs.field(factory=lambda: asyncio.Queue(_ROOM), init=False)
    _error: PeerLostError | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(self._end)

    def abort(self, error: PeerLostError) -> None:
        """End it with an error."""
        self._error = error
        self.task.cancel()

    async def replies(self) -> AsyncGenerator[Any, None]:
        """What the source gives; who stops listening ends it."""
        try:
            while not isinstance(reply := await self._queue.get(), _End):
                yield reply
            if reply.error is not None:
                raise reply.error
        finally:
            self.task.cancel()

    async def _run(self) -> None:
        limit = asyncio.timeout(self.seconds)
        try:
            async with limit, aclosing(self.source) as replies:
                async for reply in replies:
                    await self._queue.put(reply)
        except TimeoutError:
            if not limit.expired():
                raise
            raise PeerLostError(f"The other server took more than {self.seconds:g} seconds.") from None

    def _end(self, task: asyncio.Task[None]) -> None:
        """Tell whoever listens how it ended, be it before it began."""
        error = self._error if task.cancelled() else task.exception()
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(_End(error))


@attrs.define(eq=False)
class Relays:
    """The work that a backend follows."""

    _relays: set[Relay] = attrs.field(factory=set, init=False)

    async def follow(self, source: AsyncGenerator[Any, None], seconds: float) -> AsyncGenerator[Any, None]:
        """What a source gives, for at most so long, unless it is ended from elsewhere."""
        relay = Relay(source, seconds)
        self._relays.add(relay)
        try:
            async with aclosing(relay.replies()) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._relays.discard(relay)

    def abort(self, error: PeerLostError) -> None:
        """End all of it with an error."""
        for relay in self._relays:
            relay.abort(error)

    async def end(self, error: PeerLostError) -> None:
        """End all of it with an error, and return when it has ended here."""
        self.abort(error)
        await asyncio.gather(*(relay.task for relay in self._relays), return_exceptions=True)
