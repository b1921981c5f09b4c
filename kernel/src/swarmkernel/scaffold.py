"""Packages to start from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from swarmkernel.discovery import RESERVED
from swarmkernel.errors import StartupError

#: The name that stands in a template where the new plugin's shall stand.
NAME: Final = "example"
SUFFIX: Final = ".in"


@attrs.frozen
class Template:
    """
    A package to start from: ``swarmkernel plugins new NAME --kind KIND`` copies it.

    Each file of *folder* whose name ends in ``.in`` is copied without that ending. In names and texts ``example`` becomes the
    new plugin's name, ``Example`` and ``EXAMPLE`` the same in camel and upper case, and ``swarmkernel-example`` its distribution.
    """

    kind: str
    description: str
    folder: Path

    def write(self, name: str, target: Path) -> list[Path]:
        """Write the package of a plugin *name* into the empty or absent folder *target*."""
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in RESERVED:
            raise StartupError(
                f"{name!r} cannot be a plugin's name: lower-case letters, digits and _, a letter first, "
                f"and none of {', '.join(sorted(RESERVED))}"
            )
        try:
            if target.is_dir() and any(target.iterdir()):
                raise StartupError(f"{target} is not empty")
            return self._copy(name, target)
        except OSError as exc:
            raise StartupError(f"{exc.filename}: cannot be written: {exc.strerror}") from None

    def _copy(self, name: str, target: Path) -> list[Path]:
        renamed = _renaming(name)
        written = []
        for file in sorted(self.folder.rglob(f"*{SUFFIX}")):
            path = target / renamed(file.relative_to(self.folder).as_posix().removesuffix(SUFFIX))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(renamed(file.read_text(encoding="utf-8")), encoding="utf-8")
            written.append(path)
        return written


def _renaming(name: str) -> Callable[[str], str]:
    camel = "".join(word.capitalize() for word in name.split("_"))

    def renamed(text: str) -> str:
        text = text.replace(f"swarmkernel-{NAME}", f"swarmkernel-{name.replace('_', '-')}")
        return text.replace(NAME.capitalize(), camel).replace(NAME.upper(), name.upper()).replace(NAME, name)

    return renamed


#: What the kernel itself offers.
TEMPLATES: Final = (
    Template("routes", "routes, a permission and settings", Path(__file__).parent / "template"),
)
