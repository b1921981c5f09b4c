"""The server's side of the process that reads model files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import attrs

from swarmkernel import Aside, AsideError
from swarmkernel_models_api.examine import Found, unusable
from swarmkernel_models_api.facts import Facts
from swarmkernel_models_api.parsing import Checked, Examined, Question, dump, load
from swarmkernel_models_api.previews import Embedded
from swarmkernel_models_api.types import Model

log = logging.getLogger(__name__)

_LOST: Final = "it takes too much time or memory to read"


@attrs.define(eq=False)
class Elsewhere:
    """Reads in a process of its own. A file over which that dies cannot be used; the next file is read by the next one."""

    roots: tuple[Path, ...] = ()
    aside: Aside = attrs.field(factory=lambda: Aside("swarmkernel_models_api"))

    def examine(self, found: Found) -> Facts:
        """What is in a model."""
        question = dump(Question(self.roots, examine=found))
        try:
            examined = self.aside.ask(question, lambda raw: load(raw, Examined))
        except AsideError:
            lost = unusable(found, _LOST)
            return attrs.evolve(lost, stamp="") if self.aside.is_closed else lost
        for text in examined.said:
            log.warning("%s", text)
        return examined.facts

    def picture(self, model: Model) -> bytes:
        """The picture in a model's metadata; empty if there is none."""
        try:
            return self.aside.ask(dump(Question(self.roots, picture=Embedded.of(model))), bytes)
        except AsideError:
            return b""

    def header_problem(self, path: Path) -> str | None:
        """Why a file is no safetensors file that can be used, or None if it is one."""
        question = dump(Question(self.roots, header=path))
        try:
            return self.aside.ask(question, lambda raw: load(raw, Checked)).problem
        except AsideError:
            return _LOST

    def close(self) -> None:
        """Read no more; whoever waits for an answer gets none."""
        self.aside.close()
