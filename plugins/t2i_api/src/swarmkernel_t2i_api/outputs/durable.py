"""Files that appear under their name complete and on disk, or not at all.

All names are relative to an open folder. A file is written under a temporary name, which its writer keeps locked,
and gets its own name when its bytes are on disk. A temporary file that nobody locks is what a crash left.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from swarmkernel_t2i_api.outputs.safe_paths import UNSUPPORTED

TEMPORARY = ".swarmtmp"

_NO_LINKS = UNSUPPORTED | {errno.EPERM, errno.EMLINK}
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def staged(place: int, data: bytes) -> Iterator[str]:
    """The temporary name in the folder `place` of a file with `data`, on disk. The name is gone afterwards."""
    name = f".{secrets.token_hex(8)}{TEMPORARY}"
    file = os.open(name, _CREATE, 0o666, dir_fd=place)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(file, data)
            os.fsync(file)
            yield name
        finally:
            os.close(file)
    finally:
        with suppress(OSError):
            os.unlink(name, dir_fd=place)


def publish(place: int, base: str, files: Mapping[str, str]) -> bool:
    """Name the staged `files` (extension to temporary name) `base` with their extensions; False if that is taken.

    They are named in order, so the one that others are to find comes last. Nothing is overwritten.
    """
    done: list[str] = []
    try:
        for extension, temporary in files.items():
            _link(place, temporary, f"{base}.{extension}")
            done.append(f"{base}.{extension}")
    except OSError as error:
        withdraw(place, done)
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def withdraw(place: int, names: Iterable[str]) -> None:
    """Remove files again, as far as the disk lets us."""
    for name in names:
        with suppress(OSError):
            os.unlink(name, dir_fd=place)


def replace(place: int, temporary: str, name: str) -> None:
    """Give a staged file its `name`, which another file may have had."""
    os.replace(temporary, name, src_dir_fd=place, dst_dir_fd=place)


def sweep(root: Path) -> int:
    """Remove the temporary files below `root` whose writers are gone, and return their number."""
    return sum(
        _remove_if_dead(place, name)
        for _, _, names, place in os.fwalk(root)
        for name in names
        if name.endswith(TEMPORARY)
    )


def _link(place: int, temporary: str, name: str) -> None:
    """A second name rather than a rename, because a rename overwrites."""
    try:
        os.link(temporary, name, src_dir_fd=place, dst_dir_fd=place, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _remove_if_dead(place: int, name: str) -> bool:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=place)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
