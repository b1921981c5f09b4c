"""Files below a folder, reached step by step, so that no name and no link leads out of it.

Each folder is opened from the one above it without following links. Whoever swaps a folder for a link meanwhile
gains nothing, for we hold the folder and not its name.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from swarmkernel_t2i_api.outputs.errors import BadPathError

MAX_SEGMENT_BYTES = 255
MAX_SEGMENTS = 64
#: What file systems answer to what they do not offer: folders synced, hard links.
UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


def segments(path: str) -> tuple[str, ...]:
    """The parts of a relative path that a client sent, already percent-decoded once; BadPathError if one is unfit."""
    parts = tuple(path.split("/"))
    if len(parts) > MAX_SEGMENTS:
        raise BadPathError
    for part in parts:
        check_segment(part)
    return parts


def check_segment(part: str) -> None:
    """Raise BadPathError for a name that no output has, or that some system reads as more than a name."""
    try:
        size = len(part.encode())
    except UnicodeEncodeError:
        raise BadPathError from None
    if not part or size > MAX_SEGMENT_BYTES or part.startswith(".") or part.endswith((".", " ")):
        raise BadPathError
    if any(letter in "\\:" or ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in part):
        raise BadPathError
    if _DEVICE.fullmatch(part.rstrip()):
        raise BadPathError


@contextmanager
def folder(root: Path, parts: Sequence[str] = (), *, create: bool = False) -> Iterator[int]:
    """A descriptor of the folder `parts` below `root`; `create` makes what is missing. OSError if there is none."""
    descriptor = os.open(root, _FOLDER_FLAGS)
    try:
        for part in parts:
            below = _step(descriptor, part, create=create)
            above, descriptor = descriptor, below
            os.close(above)
        yield descriptor
    finally:
        # What was done in the folder is done, whatever closing it says.
        with suppress(OSError):
            os.close(descriptor)


def open_file(root: Path, parts: Sequence[str]) -> io.FileIO:
    """The file `parts` below `root`, open for reading; FileNotFoundError if it is missing or not a plain file."""
    with folder(root, parts[:-1]) as above:
        # O_NONBLOCK: opening a pipe that nobody writes to must not wait.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(parts[-1], flags, dir_fd=above)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), parts[-1])
        return io.FileIO(file)
    except OSError:
        os.close(file)
        raise


def sync_folder(descriptor: int) -> None:
    """Make the names in a folder durable, where the file system can."""
    with suppress_unsupported():
        os.fsync(descriptor)


@contextmanager
def suppress_unsupported() -> Iterator[None]:
    """Let pass what a file system says that it does not do at all."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _step(above: int, part: str, *, create: bool) -> int:
    flags = _FOLDER_FLAGS | os.O_NOFOLLOW
    try:
        return os.open(part, flags, dir_fd=above)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):
        os.mkdir(part, dir_fd=above)
        sync_folder(above)
    return os.open(part, flags, dir_fd=above)
