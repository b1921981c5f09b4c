"""A process whose disk begins to fail: the kernel answers its writes (`full`) or flushes (`flush`) with an error."""

import asyncio
import ctypes
import errno
import platform
import struct
import sys
from pathlib import Path

from swarmkernel import StoreError
from swarmkernel_store_sql import Settings, open_store

# Numbers of system calls: pwrite64, fsync, fdatasync, seccomp
CALLS = {"x86_64": (18, 74, 75, 317), "aarch64": (68, 82, 83, 277)}
PWRITE, FSYNC, FDATASYNC, SECCOMP = CALLS[platform.machine()]
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
SET_NO_NEW_PRIVS, SET_MODE_FILTER, ALL_THREADS = 38, 1, 1


class Program(ctypes.Structure):
    """The kernel's `sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def fail(calls: tuple[int, ...], number: int) -> None:
    """Make these system calls fail with the error of this number, from now on, in all threads."""
    rules = [(LOAD, 0, 0, 0)]
    rules += [(JUMP_IF_EQUAL, len(calls) - n, 0, call) for n, call in enumerate(calls)]
    rules += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, FAIL | number)]
    code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    program = Program(len(rules), code)
    assert libc.syscall(SECCOMP, SET_MODE_FILTER, ALL_THREADS, ctypes.byref(program)) == 0, ctypes.get_errno()


async def main(folder: Path, fault: str) -> None:
    """Write before and after the fault, and say what came of it."""
    said = []
    async with open_store(Settings(), folder) as store:
        numbers = store.collection("numbers", int)
        await numbers.put("before", 1)
        said.append("put before: ok")
        if fault == "full":
            fail((PWRITE,), errno.ENOSPC)
        else:
            fail((FSYNC, FDATASYNC), errno.EIO)
        for key in ("during", "later"):
            try:
                await numbers.put(key, 1)
                said.append(f"put {key}: ok")
            except StoreError as error:
                how = "by the disk" if error.__cause__ else "by the store"
                said.append(f"put {key}: refused {how}: {error}")
        said.append(f"read before: {await numbers.get('before')}")
        print("\n".join(said), flush=True)


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
