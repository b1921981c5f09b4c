"""A real server with a real worker that paints."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import numpy as np
import pytest
from safetensors.numpy import save_file

from swarmkernel.testing import Client, LiveServer

HERE = Path(__file__).parent
NOT_NEEDED = ["--disable", "backends_torch", "--disable", "starter_model", "--disable", "backends_onnx"]
QUICK = {
    "SWARMKERNEL_T2I_API__SOCKET_GRACE": "0.3",
    "SWARMKERNEL_T2I_API__MIN_FREE_MB": "1",
    "SWARMKERNEL_BACKEND_API__RESTART_PAUSE_SECONDS": "0.05",
    "SWARMKERNEL_BACKEND_API__INIT_PAUSE_SECONDS": "0.05",
}


def write_model(folder: Path, name: str, architecture: str = "stable-diffusion-v1", **metadata: str) -> Path:
    """A small model file of a known class."""
    path = folder / "Models" / "Stable-Diffusion" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {"weight": np.zeros((2, 2), np.float16)}, path, {"modelspec.architecture": architecture, **metadata}
    )
    return path


@attrs.define
class Studio:
    """A running server, its data folder, and what its backends wrote down."""

    server: LiveServer
    folder: Path
    diary: Path

    def client(self) -> Client:
        """A client with a session of its own."""
        return self.server.client()

    def lines(self, start: str = "") -> list[str]:
        """The diary's lines that begin like that."""
        text = self.diary.read_text() if self.diary.exists() else ""
        return [line for line in text.splitlines() if line.startswith(start)]

    def wait_for(self, start: str, count: int = 1, timeout: float = 20.0) -> list[str]:
        """Wait until the diary has so many such lines."""
        until = time.monotonic() + timeout
        while len(found := self.lines(start)) < count:
            assert time.monotonic() < until, f"no {count} lines {start!r} in:\n" + "\n".join(self.lines())
            time.sleep(0.02)
        return found


@pytest.fixture(name="open_studio")
def _open_studio(swarm_dists, swarm_serve, tmp_path) -> Iterator[Callable[..., Studio]]:
    """Start a server whose backends paint; keywords are environment variables."""
    swarm_dists.add(
        "canvas",
        (HERE / "canvas.py").read_text(),
        requires=["swarmkernel", "swarmkernel-backend-api", "swarmkernel-t2i-api"],
    )

    servers = []

    def start(models=("alpha", "beta"), **env: str) -> Studio:
        folder, diary = tmp_path / "data", tmp_path / "diary"
        for name in models:
            write_model(folder, name)
        server = swarm_serve(*NOT_NEEDED, data_dir=folder, **{**QUICK, "CANVAS_DIARY": str(diary), **env})
        servers.append(server)
        studio = Studio(server, folder, diary)
        studio.wait_for("start", int(env.get("CANVAS_COUNT", "1")))
        return studio

    yield start
    for server in servers:
        assert [] == [line for line in list(server.log) if re.search("Traceback|CRITICAL| ERROR ", line)]


@pytest.fixture(name="studio")
def _studio(open_studio) -> Studio:
    """One backend that makes one picture at a time, and two models, of which alpha is the default."""
    return open_studio()
