"""Running what the documentation shows."""

import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(
    r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)


@attrs.frozen
class Block:
    """A fenced block: its language, the file that it is (if any), its text, and the heading above it."""

    kind: str
    title: str | None
    text: str
    heading: str


@attrs.frozen
class Page:
    """A page of the documentation."""

    text: str

    def blocks(self) -> Iterator[Block]:
        """Its fenced blocks, in order."""
        for fence in FENCE.finditer(self.text):
            above = HEADING.findall(re.sub(FENCE, "", self.text[: fence.start()]))
            yield Block(fence["kind"], fence["title"], fence["text"], above[-1])

    def table(self, *columns: str) -> list[tuple[str, ...]]:
        """The rows of all tables with these first columns, without backticks."""
        found = []
        for table in re.findall(r"(?:^\|.*\n)+", self.text, re.MULTILINE):
            head, _, *rows = (
                [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()
            )
            if tuple(head[: len(columns)]) == columns:
                found += [tuple(cell.replace("`", "") for cell in row) for row in rows]
        return found


def matches(shown: str, real: str) -> bool:
    """Whether *real* is what a page shows: ``...`` is anything, or nothing with its commas; any space is any other."""
    parts = [r"\s*".join(map(re.escape, part.split())) for part in re.split(r",?\s*\.\.\.,?", shown)]
    return re.search(r"\s*.*?\s*".join(parts), real, re.DOTALL) is not None


@pytest.fixture(scope="session")
def page():
    """Read a page by its name."""

    def read(name: str) -> Page:
        return Page((DOCS / name).read_text())

    return read


@pytest.fixture(scope="session", name="matches")
def _matches():
    """The comparison of shown and real output."""
    return matches
