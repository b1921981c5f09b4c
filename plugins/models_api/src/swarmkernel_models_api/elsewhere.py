"""The server's side of the process that reads model files."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from swarmkernel_models_api.examine import Found, unusable
from swarmkernel_models_api.facts import Facts
from swarmkernel_models_api.parser import Checked, Examined, Question
from swarmkernel_models_api.parsing import dump, load, receive, send
from swarmkernel_models_api.previews import Embedded
from swarmkernel_models_api.types import Model

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

#: Seconds that one question may take, waiting for the disk included. The process itself bounds what it computes.
PATIENCE: Final = 60.0
#: Whoever dies over a file may have been killed for another reason, so a second one looks at it too.
_TRIES: Final = 2
_SEEN: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "LC_CTYPE", "SYSTEMROOT")
_COMMAND: Final = (sys.executable, "-P", "-m", "swarmkernel_models_api")
_LOST: Final = "it takes too much time or memory to read"


class LostError(Exception):
    """The process ended over a question, or was ended."""


@attrs.define(eq=False)
class Elsewhere:
    """
    Reads in a process of its own, started when there is something to read; it ends when it has not been asked for long.

    A file over which it dies twice cannot be used. The next file is read by the next process.
    """

    roots: tuple[Path, ...] = ()
    patience: float = PATIENCE
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)
    _turn: Any = attrs.field(factory=threading.Lock, init=False)

    def examine(self, found: Found) -> Facts:
        """What is in a model."""
        try:
            examined = self._asked(Question(self.roots, examine=found), lambda raw: load(raw, Examined))
        except LostError:
            lost = unusable(found, _LOST)
            return attrs.evolve(lost, stamp="") if self._is_closed else lost
        for text in examined.said:
            log.warning("%s", text)
        return examined.facts

    def picture(self, model: Model) -> bytes:
        """The picture in a model's metadata; empty if there is none."""
        try:
            return self._asked(Question(self.roots, picture=Embedded.of(model)), bytes)
        except LostError:
            return b""

    def header_problem(self, path: Path) -> str | None:
        """Why a file is no safetensors file that can be used, or None if it is one."""
        try:
            return self._asked(Question(self.roots, header=path), lambda raw: load(raw, Checked)).problem
        except LostError:
            return _LOST

    def close(self) -> None:
        """Read no more; whoever waits for an answer gets none."""
        self._is_closed = True
        if process := self._process:
            process.kill()
        with self._turn:
            self._end()

    def _asked(self, question: Question, read: Callable[[bytes], _Answer]) -> _Answer:
        message = dump(question)
        with self._turn:
            for _ in range(_TRIES):
                try:
                    return read(self._ask(message))
                except Exception as exc:  # noqa: BLE001  # it may say anything
                    log.info("the process that reads model files was lost: %r", exc)
                    self._end()
        raise LostError

    def _ask(self, message: bytes) -> bytes:
        if self._is_closed:
            raise EOFError
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = _start()
        assert self._process.stdin is not None  # noqa: S101  # both are pipes
        assert self._process.stdout is not None  # noqa: S101
        end = threading.Timer(self.patience, self._process.kill)
        end.daemon = True
        end.start()
        try:
            send(self._process.stdin, message)
            return receive(self._process.stdout)
        finally:
            end.cancel()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with suppress(
                subprocess.TimeoutExpired, OSError
            ):  # one that hangs in the disk ends when that does
                process.communicate(timeout=1)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # this interpreter, and a module of ours
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _SEEN if name in os.environ},
        # Ctrl-C in a terminal is for the server, which then ends this process.
        start_new_session=True,
    )
