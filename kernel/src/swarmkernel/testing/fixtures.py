"""Fixtures for plugin authors; pytest finds them by entry point wherever the kernel is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarmkernel.kernel import Kernel
from swarmkernel.settings import SettingsSource
from swarmkernel.testing.distributions import FakeDistributions
from swarmkernel.testing.server import LiveServer


@pytest.fixture(name="swarm_dists")
def _swarm_dists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDistributions]:
    """Distributions that this process and its children see as installed."""
    folder = tmp_path / "dists"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    yield FakeDistributions(folder)
    # Another test's plugin of the same name shall not get this one's module.
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture(name="swarm_boot")
def _swarm_boot() -> Callable[..., Kernel]:
    """Boot a kernel in this process, not serving; keywords are keys of the table ``[plugins]``."""

    def boot(**plugins: object) -> Kernel:
        return Kernel.boot(SettingsSource(None, {}, {"plugins": plugins}))

    return boot


@pytest.fixture(name="swarm_serve")
def _swarm_serve(tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Start servers in processes of their own; they are stopped when the test ends."""
    started: list[LiveServer] = []

    def serve(*args: str, data_dir: Path | None = None, **env: str) -> LiveServer:
        server = LiveServer(data_dir or tmp_path / "data", list(args), env)
        started.append(server)
        return server.start()

    yield serve
    for server in started:
        server.kill()


@pytest.fixture(name="swarm_server")
def _swarm_server(swarm_serve: Callable[..., LiveServer]) -> LiveServer:
    """One server with every installed plugin."""
    return swarm_serve()
