"""More connections, streams and answers than a machine can hold."""

import contextlib
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from swarmkernel.testing import LiveServer
from tests.security.conftest import LIGHT, plugin
from tests.security.people import within
from tests.security.raw import JSON, UPGRADE, dial, frame, lines, netloc, read, send

FLOOD = '''
"""Says more than anybody reads."""
import asyncio

from swarmkernel import PUBLIC, Route, hookimpl
from swarmkernel import sockets

sockets.SEND_SECONDS = 1.0
OPEN, ENDED = [], []


async def flood_ws(call):
    """Talk without end."""
    OPEN.append(1)
    try:
        while True:
            yield {"text": "x" * 100_000}
    finally:
        ENDED.append(1)


async def count_open(call):
    """How many there were, and how many are over."""
    return {"open": len(OPEN), "ended": len(ENDED)}


@hookimpl
def swarm_routes():
    return [Route("FloodWS", flood_ws, permission=PUBLIC), Route("CountOpen", count_open, permission=PUBLIC)]
'''


@pytest.fixture(name="server", scope="module")
def _server(start, tmp_path_factory):
    """A server with a route that floods, which gives up on a client after a second."""
    return start(**plugin(tmp_path_factory, "flood", FLOOD))


def test_clients_that_take_nothing_are_let_go(server):
    """A client that takes nothing of a flood is given up after the limit; its handler ends, and its connection."""
    count = server.client()
    with ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(dial(server))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(lines("GET", "/API/FloodWS", [("Host", netloc(server)), *UPGRADE]))
            assert 101 == read(connection).status
            connection.sendall(frame(b"{}"))
        within(20, lambda: count.post("CountOpen") == {"open": 5, "ended": 5})


def h2_connection(server):
    """A connection on which HTTP/2 was agreed on, and its state."""
    from h2.connection import H2Connection

    h2 = H2Connection()
    h2.initiate_connection()
    connection = dial(server)
    connection.sendall(h2.data_to_send())
    while not h2.remote_settings.max_concurrent_streams < 2**31:
        h2.receive_data(connection.recv(65536))
        connection.sendall(h2.data_to_send())
    return connection, h2


def asked(server, method: str = "GET", path: str = "/health/live"):
    """The headers of a request."""
    host = (":authority", netloc(server))
    return [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        host,
        ("content-type", "application/json"),
    ]


def test_streams_of_one_connection(server):
    """One connection may have 32 requests at a time under way; who opens more loses the connection."""
    connection, h2 = h2_connection(server)
    with connection:
        assert 32 == h2.remote_settings.max_concurrent_streams
        h2.remote_settings.update({3: 2**31 - 1})
        h2.remote_settings.acknowledge()
        for number in range(100):
            h2.send_headers(2 * number + 1, asked(server, "POST", "/API/GetNewSession"))
        connection.sendall(h2.data_to_send())
        heard = b""
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(65536):
                heard += more
    assert 200 == send(server, "POST", "/API/GetNewSession", JSON, b"{}").status


def test_streams_that_are_taken_back_at_once(server):
    """Requests that are reset as soon as they are made, over and over, do not keep others from being served."""
    from h2.exceptions import ProtocolError

    slowest, until = 0.0, time.monotonic() + 3
    while time.monotonic() < until:
        connection, h2 = h2_connection(server)
        with connection, contextlib.suppress(ConnectionError, ProtocolError):
            for number in range(2000):
                h2.send_headers(2 * number + 1, asked(server, "POST", "/API/GetNewSession"))
                h2.reset_stream(2 * number + 1)
                if number % 50 == 0:
                    connection.sendall(h2.data_to_send())
        began = time.monotonic()
        assert 200 == send(server, "POST", "/API/GetNewSession", JSON, b"{}").status
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5
    assert not [line for line in server.log if "Traceback" in line]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs ulimit")
def test_few_open_files(tmp_path):
    """Where the system lets it open few files, a server takes fewer connections: none breaks, and the log stays short."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nulimit -n 256\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with LiveServer(tmp_path / "data", LIGHT, python=str(python)) as server, ExitStack() as stack:
        client = server.client()
        assert 1 == sum("raise `ulimit -n`" in line for line in server.log)
        since, statuses = len(server.log), []
        for _ in range(348):
            connection = stack.enter_context(dial(server))
            connection.settimeout(0.01)
            with contextlib.suppress(TimeoutError, ConnectionError):
                statuses.append(connection.recv(12))
        assert {b"HTTP/1.1 503"} == set(statuses) - {b""}
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert "status" in client.post("GetCurrentStatus")
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1
        assert [] == [line for line in server.log[since:] if "open files" in line]
