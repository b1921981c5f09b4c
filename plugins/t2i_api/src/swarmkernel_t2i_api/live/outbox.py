"""What one client still has to be told, in order, however slowly it reads."""

from __future__ import annotations

import asyncio
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from functools import partial
from typing import IO, Any, TypeAlias

import attrs

Frame: TypeAlias = dict[str, Any]
#: Makes a frame at the moment it is sent; None if there is nothing to say any more.
Render: TypeAlias = Callable[[], Frame | None]


@attrs.define(eq=False)
class Outbox:
    """An ordered buffer. Of frames under one key only the latest is kept; frames without a key are all kept.

    At most about `limit` characters of long texts stay in memory (`held` are there now); what is beyond waits in
    temporary files.
    """

    limit: int
    _entries: OrderedDict[Hashable, Render] = attrs.field(factory=OrderedDict, init=False)
    _files: ExitStack = attrs.field(factory=ExitStack, init=False)
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _taken: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    held: int = attrs.field(default=0, init=False)

    def __len__(self) -> int:
        """How many frames wait."""
        return len(self._entries)

    def put(self, frame: Frame) -> None:
        """Say this, after everything before it."""
        self._entries[object()] = lambda: frame
        self._news.set()

    def latest(self, key: Hashable, render: Render) -> None:
        """Say what `render` gives by then; instead of what waits under the key, in its place."""
        self._entries[key] = render
        self._news.set()

    def put_long(self, frame: Frame, key: str) -> None:
        """Like `put`, for a frame whose text under *key* may be very long."""
        size = len(frame[key])
        if self.held + size > self.limit:
            file = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # `clear` closes it
            file.write(frame[key].encode())
            self._entries[object()] = partial(_read_back, {**frame, key: ""}, key, file)
        else:
            self.held += size
            self._entries[object()] = lambda: self._release(frame, size)
        self._news.set()

    def _release(self, frame: Frame, size: int) -> Frame:
        self.held -= size
        return frame

    def poke(self) -> None:
        """Wake whoever waits in `wait`."""
        self._news.set()

    def next(self) -> Frame | None:
        """The next frame, or None if nothing waits."""
        while self._entries:
            _, render = self._entries.popitem(last=False)
            self._taken.set()
            frame = render()
            if frame is not None:
                return frame
        return None

    async def wait(self, seconds: float) -> bool:
        """Wait until there is something to say; False if the time passed first."""
        if not self._entries:
            self._news.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                return False
        return True

    async def wait_for_room(self, most: int) -> None:
        """Wait until at most so many frames wait."""
        while len(self._entries) > most:
            self._taken.clear()
            await self._taken.wait()

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._files.close()


def _read_back(frame: Frame, key: str, file: IO[bytes]) -> Frame:
    with file:
        file.seek(0)
        return {**frame, key: file.read().decode()}
