"""The process that reads model files: whatever is in one, it takes so much of the machine and no more."""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from swarmkernel_models_api.examine import Found
from swarmkernel_models_api.facts import Facts
from swarmkernel_models_api.parsing import dump, load, receive, send
from swarmkernel_models_api.previews import Embedded
from swarmkernel_models_api.reading import Here

#: Bytes of address space, and seconds of computing on one file.
MEMORY: Final = 1024**3
SECONDS: Final = 10
#: Seconds without a question after which it ends; the next one starts another process.
IDLE: Final = 60.0


@attrs.frozen
class Question:
    """One of three questions, about files below *roots*."""

    roots: tuple[Path, ...]
    examine: Found | None = None
    picture: Embedded | None = None
    header: Path | None = None


@attrs.frozen
class Examined:
    """What is in a model, and what was logged over it."""

    facts: Facts
    said: tuple[str, ...] = ()


@attrs.frozen
class Checked:
    """Why a file is no safetensors file that can be used, or None."""

    problem: str | None


def main() -> None:
    """Answer questions on standard output until standard input ends."""
    said = _Said()
    logging.basicConfig(handlers=[said])
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints is no answer
    _bound("RLIMIT_AS", MEMORY)
    _bound("RLIMIT_FSIZE", 0)
    _bound("RLIMIT_CORE", 0)
    with suppress(EOFError, BrokenPipeError):
        while _is_asked(questions):
            question = load(receive(questions), Question)
            _bound("RLIMIT_CPU", int(time.process_time()) + SECONDS)
            send(answers, _answer(question, said))


def _is_asked(questions: BinaryIO) -> bool:
    """Wait for the next question; False if none came for long."""
    try:
        return bool(select.select([questions], [], [], IDLE)[0])
    except OSError:  # Windows
        return True


def _answer(question: Question, said: _Said) -> bytes:
    here = Here(question.roots)
    if question.picture is not None:
        return here.embedded(question.picture)
    if question.header is not None:
        return dump(Checked(here.header_problem(question.header)))
    assert question.examine is not None  # noqa: S101  # one of the three is there
    return dump(Examined(here.examine(question.examine), said.taken()))


def _bound(name: str, most: int) -> None:
    """Bound what this process may take, where the system can; it can be raised again up to what the system allows."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  # absent on Windows

        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


class _Said(logging.Handler):
    """Keeps what is logged for the server, whose log it belongs in."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self._texts.append(self.format(record)[-4000:])

    def taken(self) -> tuple[str, ...]:
        """What was kept since the last time."""
        texts, self._texts = self._texts, []
        return tuple(texts)
