"""One server with everything installed, shared by the tests of this folder that leave it as they found it."""

import time

import pytest

from swarmkernel.testing import LiveServer


def until_ready(client, timeout=90):
    """Wait until a backend runs, and return the client."""
    until = time.monotonic() + timeout
    while client.post("GetCurrentStatus")["backend_status"]["status"] != "running":
        assert time.monotonic() < until, client.post("ListBackends")
        time.sleep(0.1)
    return client


@pytest.fixture(name="shared", scope="session")
def _shared(tmp_path_factory):
    """A fresh install that has registered its backend by itself."""
    server = LiveServer(tmp_path_factory.mktemp("shared"))
    server.start()
    until_ready(server.client())
    yield server
    assert 0 == server.stop()


@pytest.fixture(name="client")
def _client(shared):
    """A session of its own on the shared server."""
    client = shared.client()
    yield client
    client.close()


@pytest.fixture(name="ready")
def _ready():
    """Wait until a client's server has a running backend."""
    return until_ready
