"""Two real servers in two processes: one paints, the other has it for a backend."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from swarmkernel.testing import FakeDistributions, LiveServer

sys.path.append(str(Path(__file__).parent))

from two_servers import CANVAS, NOT_NEEDED, QUICK, Chain, Worker, has_run, path_of, wait_for, write_model


@pytest.fixture(name="serve", scope="module")
def _serve() -> Iterator[Callable[..., LiveServer]]:
    """Start servers; they are stopped when the module ends."""
    with ExitStack() as started:

        def serve(folder: Path, *args: str, **env: str) -> LiveServer:
            server = LiveServer(folder, list(args), {**QUICK, **env})
            started.callback(server.kill)
            return server.start()

        yield serve


@pytest.fixture(name="canvas", scope="module")
def _canvas(tmp_path_factory) -> str:
    """The search path of a server whose backends paint."""
    folder = tmp_path_factory.mktemp("dists")
    FakeDistributions(folder).add(
        "canvas",
        CANVAS.read_text(),
        requires=["swarmkernel", "swarmkernel-backend-api", "swarmkernel-t2i-api"],
    )
    return path_of(folder)


@pytest.fixture(name="worker_in", scope="module")
def _worker_in(serve, canvas) -> Callable[..., Worker]:
    """Start a server whose backends paint, with its data in a folder, the `last` one of a chain; keywords are environment variables."""

    def start(folder: Path, *args: str, models=("alpha", "beta"), last: bool = True, **env: str) -> Worker:
        diary = folder / "diary"
        for name in models:
            write_model(folder, name)
        args = (*NOT_NEEDED, *(("--disable", "backends_remote") if last else ()), *args)
        worker = Worker(serve(folder, *args, PYTHONPATH=canvas, CANVAS_DIARY=str(diary), **env), diary)
        wait_for(lambda: has_run(worker))
        return worker

    return start


@pytest.fixture(name="front_in", scope="module")
def _front_in(serve) -> Callable[..., LiveServer]:
    """Start a server that has no backend, and no model of its own but those named."""

    def start(folder: Path, *args: str, models=("alpha",), **env: str) -> LiveServer:
        for name in models:
            write_model(folder, name)
        return serve(folder, *NOT_NEEDED, *args, **env)

    return start


@pytest.fixture(name="start_worker")
def _start_worker(worker_in, tmp_path) -> Callable[..., Worker]:
    """Start a worker for one test."""
    return lambda *args, **env: worker_in(tmp_path / "far", *args, **env)


@pytest.fixture(name="start_front")
def _start_front(front_in, tmp_path) -> Callable[..., LiveServer]:
    """Start a front for one test."""
    return lambda *args, **env: front_in(tmp_path / "near", *args, **env)


@pytest.fixture(name="shared_chain", scope="module")
def _shared_chain(worker_in, front_in, tmp_path_factory) -> Iterator[Chain]:
    """A front, and a worker that makes two pictures at a time."""
    folder = tmp_path_factory.mktemp("chain")
    chain = Chain(front_in(folder / "near"), worker_in(folder / "far", CANVAS_SLOTS="2"))
    yield chain
    chain.check()


@pytest.fixture(name="chain")
def _chain(shared_chain) -> Iterator[Chain]:
    """The same for a test that leaves the worker as it was, not connected yet and as if nothing had happened there."""
    yield shared_chain.anew()
    shared_chain.disconnect()


@pytest.fixture(name="own_chain")
def _own_chain(start_worker, start_front) -> Iterator[Chain]:
    """A front and a worker of the test's own that are not connected yet."""
    chain = Chain(start_front(), start_worker())
    yield chain
    chain.check()
