"""How much room an installation takes on disk, added up from what is installed here."""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from importlib.util import find_spec
from pathlib import Path

import attrs
from packaging.requirements import Requirement

#: What every installation that serves has.
SERVER = tuple(
    f"swarmkernel-{name}"
    for name in ("store-sql", "basic-api", "admin-api", "backend-api", "models-api", "t2i-api")
)
#: What can be installed, by the words that the README has for it.
CHOICES = {
    "kernel alone": ("swarmkernel",),
    "server without an engine": SERVER,
    "with ONNX": (*SERVER, "swarmkernel-backends-onnx", "swarmkernel-starter-model"),
    "with torch": (*SERVER, "swarmkernel-backends-torch", "swarmkernel-starter-model"),
}


@attrs.frozen
class Size:
    """Of an installation: packages, and bytes of their files."""

    packages: int
    bytes: int

    @property
    def megabytes(self) -> int:
        """Whole MB."""
        return round(self.bytes / 1e6)


def sizes() -> dict[str, Size]:
    """The size of every choice; PackageNotFoundError if one is not installed here."""
    found = {}
    for choice, names in CHOICES.items():
        needed = closure(names)
        found[choice] = Size(len(needed), sum(map(_bytes, needed.values())))
    return found


def closure(names: Iterable[str]) -> dict[str, Distribution]:
    """These distributions and all that they need on a machine like this one, by their normalized names."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(name) for name in names]
    done: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        key = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if (mark := f"{key} {sorted(wanted.extras)}") in done:
            continue
        done.add(mark)
        found[key] = distribution(wanted.name)
        for line in found[key].requires or ():
            needed = Requirement(line)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return found


def _bytes(installed: Distribution) -> int:
    """Of its files, byte code aside; of one that is installed for editing, those of its source."""
    name = installed.metadata["Name"].replace("-", "_")
    spec = find_spec(name) if name.startswith("swarmkernel") else None
    if spec is not None and spec.origin is not None:
        files = list(Path(spec.origin).parent.rglob("*"))
    else:
        files = [Path(str(file.locate())) for file in installed.files or ()]
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")
