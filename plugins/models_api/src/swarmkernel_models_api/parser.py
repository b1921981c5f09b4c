"""The process that reads model files."""

from __future__ import annotations

import logging
from functools import partial

from swarmkernel import serve_aside
from swarmkernel_models_api.parsing import Checked, Examined, Question, dump, load
from swarmkernel_models_api.reading import Here


def main() -> None:
    """Answer the server's questions."""
    said = _Said()
    logging.basicConfig(handlers=[said])
    serve_aside(partial(_answer, said))


def _answer(said: _Said, asked: bytes) -> bytes:
    question = load(asked, Question)
    here = Here(question.roots)
    if question.picture is not None:
        return here.embedded(question.picture)
    if question.header is not None:
        return dump(Checked(here.header_problem(question.header)))
    assert question.examine is not None  # noqa: S101  # one of the three is there
    return dump(Examined(here.examine(question.examine), said.taken()))


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
