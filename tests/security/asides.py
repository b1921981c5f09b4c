"""Finds the processes that a server has for what may be made to hurt."""

import contextlib
from pathlib import Path


def asides(server, module: str) -> list[int]:
    """The processes of a server that run *module*."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if parent == server.process.pid and module.encode() in words:
                found.append(int(folder.name))
    return found
