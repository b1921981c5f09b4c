"""Lists of words that a front end completes prompts from."""

import csv
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import attrs

MAX_LISTS = 1000


@attrs.frozen
class Style:
    """How a completed word is written: the user's `AutoComplete` settings that matter here."""

    escape_parens: bool = True
    suffix: str = ""
    spacing: str = "None"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Style":
        """Pick the style from a user's effective settings."""
        return cls(
            settings["autocomplete.escapeparens"],
            settings["autocomplete.suffix"],
            settings["autocomplete.spacingmode"],
        )

    def write(self, word: str) -> str:
        """Write *word* as it shall appear in a prompt."""
        match self.spacing:
            case "Spaces":
                word = word.replace("_", " ")
            case "Underscores":
                word = word.replace(" ", "_")
        word += self.suffix
        return word.replace("(", r"\(").replace(")", r"\)") if self.escape_parens else word


@attrs.frozen
class WordLists:
    """The ``.txt`` and ``.csv`` files under *folder*. Everything here blocks: call it in a thread."""

    folder: Path
    max_bytes: int

    def names(self) -> list[str]:
        """Paths of the lists relative to the folder, ``/`` between parts."""
        return sorted(found_files(self.folder, (".txt", ".csv")))

    def lines(self, name: str, style: Style) -> list[str] | None:
        """
        The list called *name*, one text per word.

        Lines of each text: what to insert, then the fields of the word (clean word, tag number, count, aliases).
        None if there is no such list or if it is over the size limit.
        """
        if not name or name not in self.names():
            return None
        path = self.folder / name
        try:
            stat = path.stat()
            if stat.st_size > self.max_bytes:
                return None
            return _read(path, stat.st_mtime_ns, stat.st_size, style)
        except OSError:
            return None


def found_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    """
    Names of the files under *folder* that end in one of *suffixes*, at most a thousand. Blocks.

    A link that leads out of the folder is no file of it.
    """
    count, root = 0, folder.resolve()
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            if not name.lower().endswith(suffixes) or count >= MAX_LISTS:
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                continue
            count += 1
            yield path.relative_to(folder).as_posix()


@lru_cache(maxsize=8)
def _read(path: Path, _mtime_ns: int, _size: int, style: Style) -> list[str]:
    """Read a list; a changed file has another time or size, and so another place in the cache."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = (line.strip() for line in text.splitlines())
    return [_entry(line, style) for line in lines if line and not line.startswith("#")]


def _entry(line: str, style: Style) -> str:
    try:
        fields = next(csv.reader([line]), [line])
    except csv.Error:
        fields = [line]
    if len(fields) == 2 and fields[1].strip().isdecimal():
        fields = [fields[0], "0", fields[1].strip(), ""]
    return "\n".join([style.write(fields[0]), *fields])
