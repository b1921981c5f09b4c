"""Opening the files of models: no file that lies elsewhere, whatever links lead there, and nothing that is none."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, Final

from swarmkernel_models_api.errors import ModelFileError

_ROOTS: Final[ContextVar[tuple[Path, ...] | None]] = ContextVar("roots", default=None)


@contextmanager
def confined(roots: Iterable[Path]) -> Iterator[None]:
    """Let `open_regular` open only what lies below *roots* (resolved folders), in this thread and meanwhile."""
    before = _ROOTS.set(tuple(roots))
    try:
        yield
    finally:
        _ROOTS.reset(before)


def is_below(path: Path, roots: Iterable[Path]) -> bool:
    """Whether a resolved path is below one of *roots*."""
    return any(path.is_relative_to(root) for root in roots)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; never hangs on what only looks like a file."""
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    try:
        _check(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _check(file: BinaryIO, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise ModelFileError("it is not a regular file")
    roots = _ROOTS.get()
    # Asked of what is open: whoever swaps a file for a link after the scan gains nothing.
    if roots is not None and not is_below(_place(file, path), roots):
        raise ModelFileError("it leads out of the model folders")


def _place(file: BinaryIO, path: Path) -> Path:
    """Where an open file lies; where the system does not say, where its path leads now."""
    try:
        return Path(f"/proc/self/fd/{file.fileno()}").readlink()
    except OSError:
        return path.resolve()
