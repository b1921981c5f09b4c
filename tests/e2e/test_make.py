"""`make run`, as a person types it."""

import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from swarmkernel.testing import Client

ROOT = Path(__file__).parents[2]


def _is_set_up(engine):
    """Whether `make run` would have nothing to install."""
    return (ROOT / ".venv" / f".run-{engine}").exists()


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        pytest.param(
            engine,
            number,
            marks=pytest.mark.skipif(not _is_set_up(engine), reason=f"make has not installed {engine} here"),
        )
        for engine, number in (("onnx", signal.SIGINT), ("torch", signal.SIGTERM))
    ],
)
def test_make_run(tmp_path, engine, number):
    """`make run PORT=... DATA_DIR=... ENGINE=...` serves there, and a signal to its process group ends all cleanly."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    make = subprocess.Popen(
        ["make", "run", f"ENGINE={engine}", f"PORT={port}", f"DATA_DIR={tmp_path / 'data'}"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines = []
    ready = threading.Event()

    def read():
        for line in make.stdout:
            lines.append(line)
            if f"serving on http://127.0.0.1:{port}" in line:
                ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(120), lines
        client = Client(f"http://127.0.0.1:{port}").login()
        assert "status" in client.post("GetCurrentStatus")
        client.close()
    finally:
        os.killpg(make.pid, number)
        make.wait(60)
        reader.join(60)
        make.stdout.close()

    assert [] == [line for line in lines if re.search(r"Traceback|stopping at once|CRITICAL", line)]
    assert (tmp_path / "data" / "swarmkernel.db").exists()
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


def test_an_engine_that_there_is_not():
    """`make run ENGINE=...` with another word says so and installs nothing."""
    done = subprocess.run(
        ["make", "run", "ENGINE=tensor"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert 2 == done.returncode
    assert "ENGINE is onnx or torch" in done.stderr
