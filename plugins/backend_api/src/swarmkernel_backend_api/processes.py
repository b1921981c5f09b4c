"""Starting worker processes: their environment, and what their end means."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

_SECRET: Final = re.compile(
    r"^SWARMKERNEL_|TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_?KEY|DATABASE_URL",
    re.IGNORECASE,
)
_THREAD_COUNTS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment(environ: Mapping[str, str], threads: int, keep: Collection[str]) -> dict[str, str]:
    """What a worker may see: no secrets, and how many threads to compute with unless the operator said so himself."""
    seen = {name: value for name, value in environ.items() if name in keep or not _SECRET.search(name)}
    count = str(threads or max(1, _cores() - 1))
    return dict.fromkeys(_THREAD_COUNTS, count) | seen | {"PYTHONUNBUFFERED": "1"}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a worker and to whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def ending(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def oom_kills() -> int:
    """How often this machine's kernel has killed a process for want of memory; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def new_future() -> "asyncio.Future[Any]":
    """A future of the running loop."""
    return asyncio.get_running_loop().create_future()
