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

    error: Exception | None = None


@attrs.define(eq=False)
class Relay:
    """Passes on what `source` gives, for at most `seconds`."""

    source: AsyncGenerator[Any, None]
    seconds: float
    _queue: asyncio.Queue[Any] = attrs.field(factory=lambda: asyncio.Queue(_ROOM), init=False)
    _task: asyncio.Task[None] | None = attrs.field(default=None, init=False)
    _error: PeerLostError | None = attrs.field(default=None, init=False)

    def abort(self, error: PeerLostError) -> None:
        """End it with an error."""
        if self._task is not None:
            self._error = error
            self._task.cancel()

    async def replies(self) -> AsyncGenerator[Any, None]:
        """What the source gives; who stops listening ends it."""
        self._task = asyncio.create_task(self._run())
        try:
            while not isinstance(reply := await self._queue.get(), _End):
                yield reply
            if reply.error is not None:
                raise reply.error
        finally:
            self._task.cancel()

    async def _run(self) -> None:
        end = _End()
        try:
            async with asyncio.timeout(self.seconds), aclosing(self.source) as replies:
                async for reply in replies:
                    await self._queue.put(reply)
        except TimeoutError:
            end = _End(PeerLostError(f"The other server took more than {self.seconds:g} seconds."))
        except asyncio.CancelledError:
            end = _End(self._error)
            raise
        except Exception as error:  # noqa: BLE001  # whoever listens hears of whatever it was
            end = _End(error)
        finally:
            if self._queue.full():
                self._queue.get_nowait()
            self._queue.put_nowait(end)
