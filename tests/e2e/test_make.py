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


@pytest.mark.skipif(
    not (ROOT / ".venv" / ".run").exists(), reason="make has not set up .venv in this checkout"
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_make_run(tmp_path, number):
    """`make run PORT=... DATA_DIR=...` serves there, and a signal to its process group ends all of it cleanly."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    make = subprocess.Popen(
        ["make", "run", f"PORT={port}", f"DATA_DIR={tmp_path / 'data'}"],
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
