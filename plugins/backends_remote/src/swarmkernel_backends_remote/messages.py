"""The messages of a WebSocket, taken at a pace that leaves time for everything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import attrs

from swarmkernel_backends_remote.errors import PeerLostError

if TYPE_CHECKING:
    from swarmkernel_backends_remote.sockets import ClientConnection

#: Messages of a socket that are taken within a second, and how many of them without giving way.
_IN_A_SECOND: Final = 500
_IN_A_ROW: Final = 20


@attrs.define(eq=False)
class _Pace:
    """Slows down who sends more messages than can be of use."""

    _since: float = attrs.field(factory=time.monotonic, init=False)
    _count: int = attrs.field(default=0, init=False)

    async def keep(self) -> None:
        """One message was taken."""
        now = time.monotonic()
        if now - self._since >= 1:
            self._since, self._count = now, 0
        self._count += 1
        if self._count >= _IN_A_SECOND:
            await asyncio.sleep(self._since + 1 - now)
        elif self._count % _IN_A_ROW == 0:
            await asyncio.sleep(0)


async def messages(
    socket: ClientConnection, *, seconds: float | None = None, decode: bool | None = None
) -> AsyncIterator[Any]:
    """The messages of a socket until it closes, each within some seconds. Not `decode`: bytes, whatever they are."""
    from swarmkernel_backends_remote.sockets import ConnectionClosedOK  # noqa: PLC0415

    pace = _Pace()
    while True:
        try:
            async with asyncio.timeout(seconds):
                message = await socket.recv(decode)
        except ConnectionClosedOK:
            return
        except TimeoutError:
            raise PeerLostError(f"The other server said nothing for {seconds:g} seconds.") from None
        yield message
        await pace.keep()
