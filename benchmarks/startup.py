"""How fast the kernel starts by itself, and how much memory it takes."""

import statistics
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path

from swarmkernel.testing import LiveServer

REPEATS = 5


def startup() -> tuple[float, float]:
    """Median seconds from the start of the process to its first answer, and median resident MiB after that."""
    measured = [_start_once() for _ in range(REPEATS)]
    return statistics.median(s for s, _ in measured), statistics.median(m for _, m in measured)


def _start_once() -> tuple[float, float]:
    disabled = [f"--disable={ep.name}" for ep in entry_points(group="swarmkernel.v1")]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with LiveServer(Path(folder), disabled) as server:
            server.client(login=False).http.get("/openapi.json").raise_for_status()
            seconds = time.perf_counter() - began
            assert server.process is not None
            return seconds, _resident(server.process.pid)


def _resident(pid: int) -> float:
    """Resident MiB of a process, as Linux tells it."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kib) / 1024
