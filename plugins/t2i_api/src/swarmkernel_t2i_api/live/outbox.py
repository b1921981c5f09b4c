"""What one client still has to be told, in order, however slowly it reads."""

from __future__ import annotations

import asyncio
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable
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
    _news: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
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
            self._entries[object()] = _Spilled.of(frame, key).render
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

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


@attrs.frozen
class _Spilled:
    """A frame whose long text lies in a temporary file."""

    frame: Frame
    key: str
    file: IO[bytes]

    @classmethod
    def of(cls, frame: Frame, key: str) -> _Spilled:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # closed when it is read, or with the outbox
        file.write(frame[key].encode())
        return cls({**frame, key: ""}, key, file)

    def render(self) -> Frame:
        with self.file as file:
            file.seek(0)
            return {**self.frame, self.key: file.read().decode()}
