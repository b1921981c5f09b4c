"""A real server with a real worker that paints."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import attrs
import numpy as np
import pytest
from safetensors.numpy import save_file

from swarmkernel.testing import Client, FakeDistributions, LiveServer

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
    """A running server, its data folder, what its backends wrote down, and what was there before a test began."""

    server: LiveServer
    folder: Path
    diary: Path
    skipped: int = 0
    older: frozenset[Path] = frozenset()

    def client(self) -> Client:
        """A client with a session of its own."""
        return self.server.client()

    def lines(self, start: str = "") -> list[str]:
        """The diary's lines that begin like that."""
        text = self.diary.read_text() if self.diary.exists() else ""
        return [line for line in text.splitlines()[self.skipped :] if line.startswith(start)]

    def files(self) -> frozenset[Path]:
        """The output files."""
        return frozenset(p for p in (self.folder / "Output").rglob("*") if p.is_file()) - self.older

    def wait_for(self, start: str, count: int = 1, timeout: float = 20.0) -> list[str]:
        """Wait until the diary has so many such lines."""
        until = time.monotonic() + timeout
        while len(found := self.lines(start)) < count:
            assert time.monotonic() < until, f"no {count} lines {start!r} in:\n" + "\n".join(self.lines())
            time.sleep(0.02)
        return found

    def anew(self) -> Self:
        """The same for another test, which sees what happens from now on."""
        return attrs.evolve(self, skipped=self.skipped + len(self.lines()), older=self.older | self.files())


@contextmanager
def painting(
    folder: Path, *dists: Path, models: Iterable[str] = ("alpha", "beta"), **env: str
) -> Iterator[Studio]:
    """A server whose backends paint, and in whose log nothing is an error; keywords are environment variables."""
    FakeDistributions(folder / "dists").add(
        "canvas",
        (HERE / "canvas.py").read_text(),
        requires=["swarmkernel", "swarmkernel-backend-api", "swarmkernel-t2i-api"],
    )
    studio = Studio(LiveServer(folder / "data", NOT_NEEDED), folder / "data", folder / "diary")
    for name in models:
        write_model(studio.folder, name)
    seen = [*map(str, (folder / "dists", *dists)), *filter(None, [os.environ.get("PYTHONPATH")])]
    studio.server.env = {
        **QUICK,
        "CANVAS_DIARY": str(studio.diary),
        "PYTHONPATH": os.pathsep.join(seen),
        **env,
    }
    try:
        studio.server.start()
        studio.wait_for("start", int(env.get("CANVAS_COUNT", "1")))
        yield studio
    finally:
        studio.server.kill()
    assert [] == [line for line in studio.server.log if re.search("Traceback|CRITICAL| ERROR ", line)]


@pytest.fixture(name="open_studio")
def _open_studio(tmp_path) -> Iterator[Callable[..., Studio]]:
    """Start a server of the test's own whose backends paint."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(painting(tmp_path, *args, **options))


@pytest.fixture(name="open_shared_studio", scope="module")
def _open_shared_studio(tmp_path_factory) -> Iterator[Callable[..., Studio]]:
    """Start one for all tests of a module that leave it as they found it."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(
            painting(tmp_path_factory.mktemp("studio"), *args, **options)
        )


@pytest.fixture(name="shared_studio", scope="module")
def _shared_studio(open_shared_studio) -> Studio:
    """One backend that makes one picture at a time, and two models, of which alpha is the default."""
    return open_shared_studio()


@pytest.fixture(name="studio")
def _studio(shared_studio) -> Studio:
    """The same, as if nothing had happened on it yet."""
    return shared_studio.anew()
