"""What can go wrong with a finished picture."""

from __future__ import annotations

import errno
import logging
import os

_log = logging.getLogger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class OutputError(Exception):
    """A picture could not be saved or read; the text is for the user, `error_id` for their client."""

    def __init__(self, text: str, error_id: str = "file_error") -> None:
        super().__init__(text)
        self.error_id = error_id

    @classmethod
    def of(cls, error: OSError) -> OutputError:
        """The error for a user of the system's `error`; paths of the server go to the log alone."""
        _log.error("an output could not be written: %s", error)
        if error.errno in _FULL:
            return cls("the disk of the output folder is full, so nothing was saved", "disk_full")
        if error.errno in _DENIED:
            return cls(
                "the server may not write to its output folder, so nothing was saved", "storage_denied"
            )
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        return cls(f"the output could not be saved: {reason}")


class BadPathError(OutputError):
    """A path that no output can have."""

    def __init__(self, text: str = "this is not the path of an output") -> None:
        super().__init__(text, "bad_path")
