"""A process of its own for what may go wrong: it takes so much of the machine and no more, and may die of it."""

from __future__ import annotations

import logging
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, Final, TypeVar

import attrs

log = logging.getLogger(__name__)

#: Bytes of address space of the process, and seconds of computing on one question.
MEMORY: Final = 1024**3
SECONDS: Final = 10
#: Seconds without a question after which the process ends; the next one starts another.
IDLE: Final = 60.0
#: Seconds that one question may take in all, waiting for disks included.
PATIENCE: Final = 60.0
MAX_MESSAGE: Final = 64 * 1024 * 1024
#: Whoever dies over a question may have been killed for another reason, so a second one is asked too.
_TRIES: Final = 2
_SEEN: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "LC_CTYPE", "SYSTEMROOT")
_LENGTH: Final = struct.Struct("<I")

_Answer = TypeVar("_Answer")


class AsideError(Exception):
    """There is no answer: the process died over the question twice, or takes no more."""


@attrs.define(eq=False)
class Aside:
    """
    Has questions answered by ``python -m module``, which calls `serve_aside`. Nothing is pickled.

    It is started when there is something to ask, sees no variables that may be secret, and answers one question at a
    time. One over which it dies twice has no answer; the next is for the next process.
    """

    module: str
    patience: float = PATIENCE
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)
    _turn: Any = attrs.field(factory=threading.Lock, init=False)
    is_closed: bool = attrs.field(default=False, init=False)

    def ask(self, question: bytes, read: Callable[[bytes], _Answer]) -> _Answer:
        """What *read* makes of the answer; whatever it raises is a wrong answer. This blocks: call it in a thread."""
        with self._turn:
            for _ in range(_TRIES):
                try:
                    return read(self._ask(question))
                except Exception as exc:  # noqa: BLE001  # it may say anything
                    log.info("a process of %s was lost: %.200r", self.module, exc)
                    self._end()
        raise AsideError

    def close(self) -> None:
        """Ask no more; whoever waits for an answer gets none."""
        self.is_closed = True
        if process := self._process:
            process.kill()
        with self._turn:
            self._end()

    def _ask(self, question: bytes) -> bytes:
        if self.is_closed:
            raise EOFError
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = self._start()
        assert self._process.stdin is not None  # noqa: S101  # both are pipes
        assert self._process.stdout is not None  # noqa: S101
        end = threading.Timer(self.patience, self._process.kill)
        end.daemon = True
        end.start()
        try:
            _send(self._process.stdin, question)
            return _receive(self._process.stdout)
        finally:
            end.cancel()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  # this interpreter, and a module that a plugin names
            [sys.executable, "-P", "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _SEEN if name in os.environ},
            # Ctrl-C in a terminal is for the server, which then ends this process.
            start_new_session=True,
        )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with suppress(subprocess.TimeoutExpired, OSError):  # one that hangs in a disk ends when that does
                process.communicate(timeout=1)


def serve_aside(answer: Callable[[bytes], bytes]) -> None:
    """Be the other side of an `Aside`: answer questions until nobody asks any more."""
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints is no answer
    _bound("RLIMIT_AS", MEMORY)
    _bound("RLIMIT_FSIZE", 0)
    _bound("RLIMIT_CORE", 0)
    with suppress(EOFError, BrokenPipeError):
        while _is_asked(questions):
            question = _receive(questions)
            _bound("RLIMIT_CPU", int(time.process_time()) + SECONDS)
            _send(answers, answer(question))


def _is_asked(questions: IO[bytes]) -> bool:
    """Wait for the next question; False if none came for long."""
    try:
        return bool(select.select([questions], [], [], IDLE)[0])
    except OSError:  # Windows
        return True


def _bound(name: str, most: int) -> None:
    """Bound what this process may take, where the system can; it can be raised again up to what the system allows."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  # absent on Windows

        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    """The next message; EOFError if the other side has gone or breaks the rules."""
    head = pipe.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else MAX_MESSAGE + 1
    if length > MAX_MESSAGE or len(message := pipe.read(length)) < length:
        raise EOFError
    return message
