"""Log lines that what is logged cannot forge: one line per record, no terminal codes, no hidden characters."""

from __future__ import annotations

import logging
import sys
from types import TracebackType

#: They log what passes through them, secrets included.
TALKATIVE = ("aiosqlite", "asyncpg", "sqlalchemy", "httpx", "httpcore", "hpack", "websockets")
FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def printable(text: str) -> str:
    """*text* with every character that does not print as its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class OneLineFormatter(logging.Formatter):
    """Writes a record on one line, and an exception's traceback below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line of *record*."""
        return printable(super().formatMessage(record))

    def formatException(  # noqa: N802
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """The traceback, indented, so that no line of it can pass for a record."""
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


def log_to_stderr(level: str) -> None:
    """Send log records of *level* and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.getLogger().level, logging.WARNING))
