"""Distributions that look installed, without installing anything."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from swarmkernel.discovery import GROUP


@attrs.frozen
class FakeDistributions:
    """A folder that, once on ``sys.path`` or ``PYTHONPATH``, holds plugins as pip would have left them."""

    folder: Path

    def add(
        self, name: str, code: str, *, requires: Iterable[str] = (), version: str = "1.0", group: str = GROUP
    ) -> None:
        """Put a distribution *name* with one plugin module of that name."""
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = [f"Name: {name}", f"Version: {version}", "Metadata-Version: 2.1"]
        lines += [f"Requires-Dist: {r}" for r in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}\n")
        (self.folder / f"{name}.py").write_text(code)
