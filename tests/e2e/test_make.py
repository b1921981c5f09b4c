"""`make run`, as a person types it."""

import os
import re
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from swarmkernel.testing import Client

ROOT = Path(__file__).parents[2]


def _is_set_up(engine):
    """Whether `make run` would have nothing to install."""
    return (ROOT / ".venv" / f".run-{engine}").exists()


@pytest.mark.skipif(not _is_set_up("onnx"), reason="make has not installed onnx here")
def test_make_run(tmp_path):
    """`make run PORT=... DATA_DIR=...` serves there, and Ctrl-C ends all cleanly."""
    with making(tmp_path / "data", signal.SIGINT) as client:
        assert "status" in client.post("GetCurrentStatus")

    assert (tmp_path / "data" / "swarmkernel.db").exists()


@pytest.mark.skipif(
    not (_is_set_up("onnx") and _is_set_up("torch")), reason="make has not installed both here"
)
def test_make_run_with_an_engine(tmp_path, ready):
    """`make run ENGINE=...` uses that engine in a data folder that was used with another, and `make run` goes on with it."""
    used = []
    for words in (["ENGINE=onnx"], ["ENGINE=torch"], []):
        with making(tmp_path / "data", signal.SIGTERM, *words) as client:
            backends = ready(client).post("ListBackends").values()
            used.append([backend["type"] for backend in backends if backend["status"] == "running"])
            assert 1 == len(
                client.post("GenerateText2Image", prompt="a red circle", images=1, steps=2)["images"]
            )

    assert [["onnx"], ["torch"], ["torch"]] == used


@contextmanager
def making(folder, number, *words):
    """A client of the server that `make run` starts, which this signal to its process group ends cleanly."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    make = subprocess.Popen(
        ["make", "run", f"PORT={port}", f"DATA_DIR={folder}", *words],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "ENGINE"))},
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
        yield client
        client.close()
    finally:
        os.killpg(make.pid, number)
        make.wait(60)
        reader.join(60)
        make.stdout.close()

    assert [] == [line for line in lines if re.search(r"Traceback|stopping at once|CRITICAL", line)]
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


def test_an_engine_that_there_is_not():
    """`make run ENGINE=...` with another word says so and installs nothing."""
    done = subprocess.run(
        ["make", "run", "ENGINE=tensor"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert 2 == done.returncode
    assert "ENGINE is onnx or torch" in done.stderr
