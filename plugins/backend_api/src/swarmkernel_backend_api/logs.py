"""What a worker says, brought into the server's log without letting it flood or forge that log."""

import logging
import time

import attrs

_LINE_LIMIT = 2000


def escaped(text: str) -> str:
    """A line without control characters: they show as escapes."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


@attrs.define(eq=False)
class Forwarder:
    """Writes a worker's lines to a logger, each with the backend's label, at most ``per_second`` on average, and says how many it left out."""

    logger: logging.Logger
    label: str
    per_second: int
    _allowance: float = attrs.field(init=False)
    _seen: float = attrs.field(factory=time.monotonic, init=False)
    _left_out: int = attrs.field(default=0, init=False)
    _tail: bytes = attrs.field(default=b"", init=False)

    def __attrs_post_init__(self) -> None:
        self._allowance = 4.0 * self.per_second

    def feed(self, data: bytes) -> None:
        """Bytes of the worker's standard error; complete lines are logged."""
        *lines, self._tail = (self._tail + data).split(b"\n")
        if len(self._tail) > _LINE_LIMIT:
            lines, self._tail = [*lines, self._tail], b""
        for line in lines:
            self.log(logging.INFO, line.decode(errors="replace"))

    def log(self, level: int, text: str) -> None:
        """Log a text, line by line."""
        for line in text.splitlines():
            if not line.strip():
                continue
            if self._admit():
                self.logger.log(level, "%s: %s", self.label, escaped(line[:_LINE_LIMIT]))
            else:
                self._left_out += 1

    def _admit(self) -> bool:
        now = time.monotonic()
        self._allowance = min(4.0 * self.per_second, self._allowance + (now - self._seen) * self.per_second)
        self._seen = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        if self._left_out:
            self.logger.warning("%s: (%d lines left out)", self.label, self._left_out)
            self._left_out = 0
        return True
