"""Two real servers in two processes: one paints, the other has it for a backend."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarmkernel.testing import LiveServer

sys.path.append(str(Path(__file__).parent))

from two_servers import CANVAS, NOT_NEEDED, QUICK, Chain, Worker, has_run, wait_for, write_model


@pytest.fixture(name="start_worker")
def _start_worker(swarm_dists, swarm_serve, tmp_path) -> Callable[..., Worker]:
    """Start a server whose backends paint; keywords are environment variables."""
    swarm_dists.add(
        "canvas",
        CANVAS.read_text(),
        requires=["swarmkernel", "swarmkernel-backend-api", "swarmkernel-t2i-api"],
    )

    def start(*args: str, models=("alpha", "beta"), **env: str) -> Worker:
        folder, diary = tmp_path / "far", tmp_path / "diary"
        for name in models:
            write_model(folder, name)
        args = (*NOT_NEEDED, "--disable", "backends_remote", *args)
        env = {**QUICK, "CANVAS_DIARY": str(diary), **env}
        worker = Worker(swarm_serve(*args, data_dir=folder, **env), diary)
        wait_for(lambda: has_run(worker))
        return worker

    return start


@pytest.fixture(name="start_front")
def _start_front(swarm_serve, tmp_path) -> Callable[..., LiveServer]:
    """Start a server that has no backend and no model of its own but those named."""

    def start(*args: str, models=("alpha",), **env: str) -> LiveServer:
        folder = tmp_path / "near"
        for name in models:
            write_model(folder, name)
        return swarm_serve(*NOT_NEEDED, "--disable", "canvas", *args, data_dir=folder, **{**QUICK, **env})

    return start


@pytest.fixture(name="chain")
def _chain(start_worker, start_front) -> Iterator[Chain]:
    """A front and a worker that are not connected yet; in the front's log there is no traceback in the end."""
    chain = Chain(start_front(), start_worker())
    yield chain
    assert [] == [line for line in chain.front.log if "Traceback" in line or "CRITICAL" in line]


@pytest.fixture(name="chain_of")
def _chain_of() -> type[Chain]:
    """Put two servers together."""
    return Chain
