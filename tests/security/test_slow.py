"""A client that sends slowly, or never ends, is cut off at the deadline; meanwhile others are served."""

import socket
import time

import pytest

from tests.security.raw import JSON, UPGRADE, dial, frame, lines, netloc, read, send, until_closed

DEADLINE = 1.0
#: What a machine under load may add to a deadline.
SLACK = 4.0


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server that is in a hurry."""
    seconds = str(DEADLINE)
    return start(SWARMKERNEL_SERVER__BODY_SECONDS=seconds, SWARMKERNEL_SERVER__FIRST_MESSAGE_SECONDS=seconds)


@pytest.fixture(name="patient", scope="module")
def _patient(start):
    """A server that cuts nobody off while a test runs: whoever waited for the slow ones would wait for long."""
    return start()


def trickle(connection, data: bytes, pause: float = 0.1):
    """Send a byte at a time until the other side closes; all that it said."""
    connection.settimeout(pause)
    heard, until = b"", time.monotonic() + DEADLINE + SLACK + 8
    for number in range(10_000):
        try:
            connection.sendall(data[number % len(data) : number % len(data) + 1])
        except ConnectionError:
            return heard
        try:
            more = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return heard
        finally:
            assert time.monotonic() < until, heard
        if not more:
            return heard
        heard += more
    return heard


def head(server, *extra, length: int = 50_000) -> bytes:
    """The beginning of a call."""
    return lines(
        "POST",
        "/API/GetNewSession",
        [("Host", netloc(server)), *JSON, ("Content-Length", str(length)), *extra],
    )


def test_a_body_that_trickles(server):
    """A body of which a little comes all the time is cut off with 408 at the deadline; a little more time is for more."""
    with dial(server) as connection:
        connection.sendall(head(server, length=5000))
        began = time.monotonic()
        heard = trickle(connection, b" ")
    assert heard.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in heard.lower()
    assert DEADLINE * 0.9 < time.monotonic() - began < DEADLINE + SLACK


def test_a_chunked_body_that_trickles(server):
    """The same for a body that does not say how long it is."""
    chunked = lines(
        "POST",
        "/API/GetNewSession",
        [("Host", netloc(server)), *JSON, ("Transfer-Encoding", "chunked")],
    )
    with dial(server) as connection:
        connection.sendall(chunked)
        began = time.monotonic()
        assert trickle(connection, b"1\r\n \r\n", 0.02).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < DEADLINE + SLACK


def test_a_body_that_does_not_come(server):
    """A body of which nothing comes is cut off alike."""
    with dial(server) as connection:
        connection.sendall(head(server))
        heard, seconds = until_closed(connection, DEADLINE + SLACK)
    assert heard.startswith(b"HTTP/1.1 408")
    assert seconds > DEADLINE * 0.9


def test_headers_that_trickle(server):
    """Headers that do not end are cut off too."""
    with dial(server) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n")
        heard = trickle(connection, b"X-Slow: 1\r\n")
    assert b"200" not in heard[:20]


def test_nothing_at_all(server):
    """A connection on which nothing comes is closed."""
    with dial(server) as connection:
        until_closed(connection, 15)


def test_a_first_message_that_trickles(server):
    """A socket whose first message does not end in time is told so and closed, whatever comes meanwhile."""
    with dial(server) as connection:
        connection.sendall(lines("GET", "/API/GenerateText2ImageWS", [("Host", netloc(server)), *UPGRADE]))
        assert 101 == read(connection).status
        began = time.monotonic()
        connection.sendall(frame(b"{" + b" " * 9000)[:20])
        heard = trickle(connection, b" ")
    assert b"basic_api" in heard
    assert time.monotonic() - began < DEADLINE + SLACK


@pytest.mark.parametrize("kind", ["fragments", "pings"])
def test_a_first_message_in_crumbs(server, kind):
    """Neither endless fragments nor pings keep a socket without a message open."""
    crumb = frame(b"", opcode=0, final=False) if kind == "fragments" else frame(b"x", opcode=9)
    with dial(server) as connection:
        connection.sendall(lines("GET", "/API/GenerateText2ImageWS", [("Host", netloc(server)), *UPGRADE]))
        assert 101 == read(connection).status
        began = time.monotonic()
        if kind == "fragments":
            connection.sendall(frame(b"{", final=False))
        heard = trickle(connection, crumb, 0.01)
    assert b"basic_api" in heard
    assert time.monotonic() - began < DEADLINE + SLACK


def test_an_http_2_body_that_does_not_come(server):
    """The deadline is the same over HTTP/2."""
    from h2.connection import H2Connection
    from h2.events import ResponseReceived

    h2 = H2Connection()
    h2.initiate_connection()
    headers = [(":method", "POST"), (":scheme", "http"), (":path", "/API/GetNewSession")]
    headers += [(":authority", netloc(server)), ("content-type", "application/json")]
    h2.send_headers(1, headers)
    began = time.monotonic()
    with dial(server) as connection:
        connection.sendall(h2.data_to_send())
        statuses = []
        while not statuses and (data := connection.recv(65536)):
            events = h2.receive_data(data)
            connection.sendall(h2.data_to_send())
            statuses += [dict(e.headers)[b":status"] for e in events if isinstance(e, ResponseReceived)]
    assert [b"408"] == statuses
    assert time.monotonic() - began < DEADLINE + SLACK


def test_others_are_served_meanwhile(patient):
    """While many connections trickle, a call is answered at once."""
    slow: list[socket.socket] = []
    try:
        for _ in range(60):
            slow.append(dial(patient))
            slow[-1].sendall(head(patient) + b" " * 10)
        began = time.monotonic()
        assert 200 == send(patient, "POST", "/API/GetNewSession", JSON, b"{}").status
        assert time.monotonic() - began < SLACK
    finally:
        for connection in slow:
            connection.close()


def test_unread_answers(server):
    """A client that asks for much and reads nothing holds up nobody else."""
    asked = lines("GET", "/openapi.json", [("Host", netloc(server))]) * 300
    with dial(server) as connection:
        connection.settimeout(0.5)
        try:
            connection.sendall(asked)
        except TimeoutError:
            pass
        began = time.monotonic()
        assert 200 == send(server, "POST", "/API/GetNewSession", JSON, b"{}").status
        assert time.monotonic() - began < DEADLINE
