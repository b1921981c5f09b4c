"""Whoever opens all the connections they can, or never reads what they asked for, keeps nobody else from the server."""

import contextlib
import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.security.people import within
from tests.security.raw import JSON, UPGRADE, dial, frame, lines, netloc, read, send, until_closed

CAP = 8


def address() -> str | None:
    """An address of this machine that is not a loopback one, if it has any."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("198.51.100.1", 9))
        found = probe.getsockname()[0]
        return None if found.startswith("127.") else found
    return None


OUTSIDE = address()
outside = pytest.mark.skipif(OUTSIDE is None, reason="this machine has no address but loopback")


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server for a network, with small limits."""
    return start(
        "--host",
        "0.0.0.0",
        "--allow-open-network",
        SWARMKERNEL_SERVER__CONNECTIONS_PER_CLIENT=str(CAP),
        SWARMKERNEL_SERVER__MAX_CONNECTIONS="60",
        SWARMKERNEL_SERVER__FIRST_MESSAGE_SECONDS="5",
        SWARMKERNEL_SERVER__INCOMING_MB_PER_CLIENT="1",
    )


def served(server, to: str, via: str | None = None) -> float:
    """How long a call takes from somewhere; an error if it is not answered."""
    began = time.monotonic()
    reply = send(server, "POST", "/API/GetNewSession", JSON, b"{}", host=to, to=to, via=via)
    assert 200 == reply.status, reply
    return time.monotonic() - began


@outside
@pytest.mark.parametrize("kind", ["nothing", "half a header", "half a body", "socket"])
def test_one_client_has_a_share(server, kind):
    """One client on the network gets its share of connections, idle or busy, and 503 beyond; others do not notice."""
    head = [("Host", OUTSIDE), *JSON, ("Content-Length", "100")]
    first = {
        "nothing": b"",
        "half a header": b"POST /API/x HTTP/1.1\r\nHost: ",
        "half a body": lines("POST", "/API/GetNewSession", head) + b"{",
        "socket": lines("GET", "/API/GenerateText2ImageWS", [("Host", OUTSIDE), *UPGRADE]),
    }[kind]
    within(10, lambda: send(server, "GET", "/health/live", host=OUTSIDE, to=OUTSIDE).status == 200)
    since = len(server.log)
    with ExitStack() as stack:
        for _ in range(CAP):
            connection = stack.enter_context(dial(server, OUTSIDE))
            connection.sendall(first)
        time.sleep(0.2)
        refused = []
        for _ in range(40):
            with dial(server, OUTSIDE) as extra:
                extra.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                refused.append(read(extra).status)
        assert {503} <= set(refused) <= {503, 0}
        assert max(served(server, "127.0.0.1", f"127.0.0.{n}") for n in range(1, 6)) < 2
    within(10, lambda: send(server, "GET", "/health/live", host=OUTSIDE, to=OUTSIDE).status == 200)
    assert len(server.log) - since < 20, server.log[since:][:30]


@outside
def test_one_client_has_a_share_of_memory(server):
    """What one client on the network has under way is bounded; a body too many is refused, and others go through."""
    client = server.client()
    head = [("Host", OUTSIDE), *JSON, ("Content-Length", "900000"), ("X-Session-ID", client.session_id)]
    half = lines("POST", "/API/ChangeUserSettings", head) + b'{"a":"' + b"x" * 800_000
    with ExitStack() as stack:
        slow = stack.enter_context(dial(server, OUTSIDE))
        slow.sendall(half)
        time.sleep(0.3)
        with dial(server, OUTSIDE) as extra:
            with contextlib.suppress(ConnectionError):
                extra.sendall(half)
            assert 503 == read(extra).status
        assert served(server, "127.0.0.1") < 2


def test_all_together_have_a_limit(server):
    """All connections together are bounded; beyond, each is told so, and after they end the server is as before."""
    since = len(server.log)
    with ExitStack() as stack:
        statuses = []
        for _ in range(100):
            connection = stack.enter_context(dial(server))
            connection.settimeout(0.02)
            with contextlib.suppress(TimeoutError, ConnectionError):
                statuses.append(connection.recv(12))
        assert {b"HTTP/1.1 503"} == set(statuses) - {b""}
        assert len(statuses) >= 40
    within(10, lambda: send(server, "GET", "/health/live").status == 200)
    assert len(server.log) - since < 20


def test_descriptors_are_given_back(server):
    """Connections that broke off leave no descriptor behind."""
    folder = Path(f"/proc/{server.process.pid}/fd")
    served(server, "127.0.0.1")
    before = len(list(folder.iterdir()))
    for number in range(60):
        with dial(server) as connection:
            connection.sendall(
                b"POST /API/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"[: 10 + number]
            )
    within(15, lambda: len(list(folder.iterdir())) <= before + 3)


@pytest.mark.parametrize("parts", ["messages", "fragments"])
def test_strangers_who_talk_too_much(server, parts):
    """Before anybody is known, whoever sends more than a little is cut off: their connection ends, whatever they do."""
    within(10, lambda: send(server, "GET", "/health/live").status == 200)
    more = frame(b"x" * 60_000, opcode=1 if parts == "messages" else 0, final=parts == "messages")
    with dial(server) as connection:
        connection.sendall(lines("GET", "/API/NopeWS", [("Host", netloc(server)), *UPGRADE]))
        assert 101 == read(connection).status
        with contextlib.suppress(ConnectionError):
            connection.sendall(frame(b"x", final=parts == "messages"))
            for _ in range(100):
                connection.sendall(more)
        heard, seconds = until_closed(connection, 20)
    assert b"session_id" not in heard
    assert seconds < 10


@pytest.mark.parametrize("kind", ["socket", "chunks", "length"])
def test_early_refusals_leave_nothing_open(server, kind):
    """Who goes on sending after a refusal is cut off, and nothing of the connection stays when they are gone."""
    folder = Path(f"/proc/{server.process.pid}/fd")
    within(15, lambda: send(server, "GET", "/health/live").status == 200)
    before = len(list(folder.iterdir()))
    framing = ("Content-Length", "99999999") if kind == "length" else ("Transfer-Encoding", "chunked")
    head = {
        "socket": lines("GET", "/API/NopeWS", [("Host", netloc(server)), *UPGRADE]),
        "chunks": lines("POST", "/API/Login", [("Host", netloc(server)), ("Origin", "null"), framing]),
        "length": lines("POST", "/API/Login", [("Host", netloc(server)), ("Origin", "null"), framing]),
    }[kind]
    more = {"socket": frame(b"x" * 60_000), "chunks": b"10000\r\n" + b"x" * 0x10000 + b"\r\n"}.get(
        kind, b"x" * 60_000
    )
    for _ in range(10):
        with dial(server) as connection:
            connection.settimeout(1)
            with contextlib.suppress(ConnectionError, TimeoutError):
                connection.sendall(head)
                if kind == "socket":
                    assert 101 == read(connection).status
                for _ in range(100):
                    connection.sendall(more)
            time.sleep(0.05)
    within(15, lambda: len(list(folder.iterdir())) <= before + 3)


def test_one_user_has_a_share_of_sockets(painting):
    """A user has so many sockets at a time; one more is told so, and another user's opens."""
    people = painting(SWARMKERNEL_SERVER__SOCKETS_PER_USER="4")
    client, other = people.client(), people.client()
    again = people.server.client(login=False)
    again.session_id = client.raw("GetNewSession").json()["session_id"]
    work = {"images": 1, "steps": 100, "prompt": "slower", "width": 64, "height": 64, "donotsave": True}
    with ExitStack() as stack:
        for one in (client, client, again, again):
            ws = stack.enter_context(one.socket("GenerateText2ImageWS", **work))
            assert "error" not in json.loads(ws.recv(timeout=20))
        for one in (client, again):
            assert "error" in one.stream("GenerateText2ImageWS", **work)[-1]
        with other.socket("GenerateText2ImageWS", **work) as ws:
            assert "error" not in json.loads(ws.recv(timeout=20))
        assert "status" in client.post("GetCurrentStatus")
        for one in (client, other):
            one.post("InterruptAll", other_sessions=True)
    within(20, lambda: "error" not in client.stream("GenerateText2ImageWS", **work | {"steps": 1})[-1])


def test_sockets_that_nobody_reads(painting):
    """Clients that ask for previews and never read them cost little memory, and others get theirs."""
    people = painting()
    status = Path(f"/proc/{people.server.process.pid}/status")

    def rss() -> float:
        return (
            int(next(row for row in status.read_text().splitlines() if row.startswith("VmRSS")).split()[1])
            / 1024
        )

    quick = {"images": 1, "steps": 2, "prompt": "x", "width": 64, "height": 64, "donotsave": True}
    clients = [people.client() for _ in range(6)]
    assert clients[0].stream("GenerateText2ImageWS", **quick)
    before = rss()
    with ExitStack() as stack:
        for client in clients:
            for _ in range(4):
                connection = stack.enter_context(dial(people.server))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.sendall(
                    lines("GET", "/API/GenerateText2ImageWS", [("Host", netloc(people.server)), *UPGRADE])
                )
                body = quick | {"session_id": client.session_id, "steps": 100, "prompt": "slow noisy"}
                connection.sendall(frame(json.dumps(body).encode()))
        until = time.monotonic() + 5
        slowest = 0.0
        while time.monotonic() < until:
            began = time.monotonic()
            assert "status" in people.owner.post("GetCurrentStatus")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        images = [f for f in people.client().stream("GenerateText2ImageWS", **quick) if "image" in f]
        assert 1 == len(images)
        assert rss() - before < 64
        assert slowest < 2
        for client in clients:
            client.post("InterruptAll", other_sessions=True)
