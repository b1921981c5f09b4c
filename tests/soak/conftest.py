"""Servers to mistreat, and what the system says of their processes."""

import time
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
from safetensors.numpy import save_file

from swarmkernel.testing import Client, LiveServer

HERE = Path(__file__).parent
NO_TORCH = ["--disable", "backends_torch", "--disable", "starter_model", "--disable", "backends_onnx"]
QUICK = {
    "SWARMKERNEL_T2I_API__SOCKET_GRACE": "0.1",
    "SWARMKERNEL_T2I_API__MIN_FREE_MB": "1",
    "SWARMKERNEL_BACKEND_API__RESTART_PAUSE_SECONDS": "0.05",
    "SWARMKERNEL_BACKEND_API__INIT_PAUSE_SECONDS": "0.05",
}


@attrs.frozen
class Process:
    """What /proc tells of a process."""

    pid: int

    @property
    def rss(self) -> float:
        """Resident memory in MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

    @property
    def descriptors(self) -> int:
        """How many files and sockets are open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def threads(self) -> int:
        """How many threads run."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    @property
    def children(self) -> list[int]:
        """The process ids of its children."""
        found: list[str] = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                found += (task / "children").read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # a thread that ended just now
        return [int(child) for child in found]

    @property
    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False


def wait_until(condition: Callable[[], object], seconds: float = 60.0, said: object = "") -> None:
    """Wait until something holds; an assertion error that shows *said* (called, if it can be) if it does not."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, said() if callable(said) else said
        time.sleep(0.05)


def until_ready(client: Client, seconds: float = 120.0) -> Client:
    """Wait until a backend runs, and return the client."""
    wait_until(
        lambda: client.post("GetCurrentStatus")["backend_status"]["status"] == "running",
        seconds,
        lambda: client.post("ListBackends"),
    )
    return client


@pytest.fixture(name="process_of")
def _process_of() -> Callable[[LiveServer], Process]:
    """The process of a live server."""
    return lambda server: Process(server.process.pid)


@pytest.fixture(name="process")
def _process() -> type[Process]:
    """What /proc tells of any process."""
    return Process


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    """Wait until something holds, or fail."""
    return wait_until


@pytest.fixture(name="ready")
def _ready() -> Callable[..., Client]:
    """Wait until a client's server has a running backend."""
    return until_ready


@pytest.fixture(name="paint")
def _paint(swarm_dists, swarm_serve, tmp_path) -> Callable[..., LiveServer]:
    """Start a server whose one backend paints, with one model, and wait for it; keywords are environment variables."""
    requires = ["swarmkernel", "swarmkernel-backend-api", "swarmkernel-t2i-api"]
    swarm_dists.add("painter", (HERE / "painter.py").read_text(), requires=requires)

    def start(data_dir: Path | None = None, *, wait: bool = True, **env: str) -> LiveServer:
        data_dir = data_dir or tmp_path / "data"
        folder = data_dir / "Models" / "Stable-Diffusion"
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"modelspec.architecture": "stable-diffusion-v1"}
        save_file({"weight": np.zeros((2, 2), np.float16)}, folder / "alpha.safetensors", facts)
        server = swarm_serve(*NO_TORCH, data_dir=data_dir, **{**QUICK, **env})
        if wait:
            until_ready(server.client())
        return server

    return start


def no_complaint(server: LiveServer) -> None:
    """The server's log holds no traceback and no unexpected error."""
    words = ("Traceback", "unexpected", "Unhandled", "never retrieved", "never awaited")
    lines = list(server.log)
    first = next((n for n, line in enumerate(lines) if any(word in line for word in words)), None)
    assert first is None, "".join(lines[max(0, first - 5) : first + 60])


@pytest.fixture(name="no_complaint")
def _no_complaint() -> Callable[[LiveServer], None]:
    """A check that a server's log holds no traceback and no unexpected error."""
    return no_complaint
