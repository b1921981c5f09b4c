"""The file of a model while it arrives. Everything here blocks: call it in a thread."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs

from swarmkernel_models_api.errors import FetchError

#: A temporary file that nobody has written to for this long is left over from a server that was killed.
_LEFT_OVER_SECONDS: Final = 3600.0
_ENDING: Final = ".part"


@attrs.define(eq=False)
class Arriving:
    """A temporary file beside *target*, hidden from the model list, that becomes it when it is whole and right."""

    target: Path
    path: Path
    spare: int
    size: int = 0
    _file: BinaryIO = attrs.field(kw_only=True)
    _digest: Any = attrs.field(factory=hashlib.sha256, init=False)

    @classmethod
    def begin(cls, target: Path, spare_bytes: int, spare_fraction: float) -> Arriving:
        """Open it. On the disk at least *spare_bytes* and *spare_fraction* of it will stay free."""
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        total = shutil.disk_usage(target.parent).total
        path = target.with_name(f".{target.name}.{secrets.token_hex(8)}{_ENDING}")
        spare = max(spare_bytes, int(total * spare_fraction))
        return cls(target, path, spare, file=path.open("xb"))

    def require_room(self, wanted: int) -> None:
        """Raise FetchError unless the disk takes *wanted* bytes and keeps the spare ones."""
        if shutil.disk_usage(self.target.parent).free - wanted < self.spare:
            raise FetchError("There is not enough free space on the disk of the model folder.")

    def write(self, block: bytes) -> None:
        """Add what came."""
        self.require_room(len(block))
        self._file.write(block)
        self._digest.update(block)
        self.size += len(block)

    def keep(self, sha256: str | None, size: int | None, problem_of: Callable[[Path], str | None]) -> None:
        """Check that it is whole and what was wanted, and put it in its place; *problem_of* looks into it."""
        if size is not None and self.size != size:
            raise FetchError(f"It has {self.size} bytes and should have {size}.")
        if sha256 is not None and self._digest.hexdigest() != sha256:
            raise FetchError("It is not the file that was expected: its SHA-256 is another.")
        self._file.flush()
        os.fsync(self._file.fileno())
        if problem := problem_of(self.path):
            raise FetchError(f"It is no safetensors file that can be used: {problem}.")
        self.path.replace(self.target)
        _sync_folder(self.target.parent)

    def close(self) -> None:
        """Remove what is there unless it was kept."""
        with contextlib.suppress(OSError):  # a full disk refuses the last bytes
            self._file.close()
        self.path.unlink(missing_ok=True)


def _sweep(target: Path) -> None:
    oldest = time.time() - _LEFT_OVER_SECONDS
    for path in target.parent.iterdir():
        if path.name.startswith(f".{target.name}.") and path.name.endswith(_ENDING):
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < oldest:
                    path.unlink()


def _sync_folder(folder: Path) -> None:
    """Have the new name survive a loss of power, where folders can be synchronised."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
