"""A request that calls the server by a name that is not its own reaches nothing: the defence against DNS rebinding."""

import pytest

from tests.security.raw import JSON, Reply, dial, netloc, port, send, upgrade

PORT = "{port}"
#: Every form of a name of this machine, and those of the settings.
OURS = [
    "127.0.0.1",
    "127.0.0.1:{port}",
    "127.0.0.1:1",
    "localhost",
    "localhost:{port}",
    "localhost:80",
    "LOCALHOST",
    "LocalHost:{port}",
    "localhost.",
    "localhost.:{port}",
    "[::1]",
    "[::1]:{port}",
    "art.example",
    "ART.example:{port}",
    "art.example.",
    "xn--bro-hoa.example",
]
#: Names that look like them, or mean the same to some resolver.
OTHERS = [
    "evil.example",
    "evil.example:{port}",
    "localhost.evil.example",
    "evil.localhost",
    "127.0.0.1.nip.io",
    "127.0.0.1.evil.example:{port}",
    "art.example.evil.example",
    "evil-art.example",
    "xart.example",
    "art.example.evil",
    "art",
    "example",
    "2130706433",
    "0x7f000001",
    "017700000001",
    "0",
    "0.0.0.0",
    "127.1",
    "127.0.1",
    "127.0.0.2",
    "127.0.0.01",
    "0177.0.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "[::]",
    "[::2]",
    "[::ffff:7f00:1]x",
    "[::ffff:10.0.0.1]",
    "[0:0:0:0:0:0:0:2]",
    "::1",
    "[::1",
    "[::1]evil.example",
    "localhost:99999999",
    "localhost:-1",
    "localhost:80:80",
    "localhost:evil",
    "localhost:{port}@evil.example",
    "x@localhost",
    "user:pass@localhost:{port}",
    "a/b?c",
    "localhost/evil.example",
    "localhost?evil.example",
    "localhost#evil.example",
    "localhost\\evil.example",
    "localhost evil.example",
    "localhost\tevil.example",
    "localhost, evil.example",
    "localhost;evil.example",
    "http://localhost",
    "http://localhost:{port}",
    "//localhost",
    "localhost%2eevil.example",
    "localhost%00",
    "*",
    "*.example",
    ".localhost",
    "localhost..",
    "local host",
    "ｌocalhost",
    "locaʟhost",
    "localhost\x80",
    "büro.example",
    "a" * 300,
    ":",
    ":{port}",
    ".",
    "",
]
#: What the HTTP layer refuses before anybody looks.
MALFORMED = [
    ["localhost", "localhost"],
    ["localhost", "evil.example"],
    ["evil.example", "localhost"],
    "localhost\x00",
    "localhost\x00.evil.example",
    "local\x01host",
    b"",
]
METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH")
PATHS = ("/", "/health/live", "/openapi.json", "/View/local/x.png", "/Error/NoGetAPI", "/nowhere", "/api/x/")


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server that has names of its own."""
    return start(SWARMKERNEL_SERVER__HOSTS='["Art.Example", "xn--bro-hoa.example."]')


def statuses(server, host) -> dict[str, int]:
    """What each method on an API route, and an upgrade, gets under a Host."""
    host = host.replace(PORT, str(port(server))) if isinstance(host, str) else host
    found = {m: send(server, m, "/API/GetNewSession", JSON, b"{}", host=host).status for m in METHODS}
    return found | {"WebSocket": upgrade(server, host=host).status}


def test_the_table_is_long():
    """More than forty names are tried."""
    assert len(OURS) + len(OTHERS) + len(MALFORMED) > 80


def test_own_names(server):
    """Each name of this machine and of the settings, in any form that means the same, is taken by every method."""
    usual = dict.fromkeys(METHODS, 302) | {"POST": 200, "WebSocket": 101}
    assert {} == {host: found for host in OURS if (found := statuses(server, host)) != usual}


def test_other_names(server):
    """No other name is, by any method or upgrade."""
    refused = dict.fromkeys((*METHODS, "WebSocket"), 403)
    assert {} == {host: found for host in OTHERS if (found := statuses(server, host)) != refused}


def test_malformed_names(server):
    """A missing, repeated or malformed Host is refused by every method."""
    found = {str(host): set(statuses(server, host).values()) for host in MALFORMED}
    assert {} == {host: codes for host, codes in found.items() if not codes <= {400, 403}}


@pytest.mark.parametrize("path", PATHS)
def test_before_routing(server, path):
    """The name is judged before the path: pages, files and unknown places are refused alike, and say nothing."""
    for method in METHODS:
        reply = send(server, method, path, host="evil.example")
        assert (403, "basic_api") == (reply.status, "basic_api" if method == "HEAD" else reply.error_id)
    assert 403 == upgrade(server, path, host="evil.example").status


def test_nothing_is_done(server):
    """A refused request has no effect: no session comes of it."""
    reply = send(server, "POST", "/API/GetNewSession", JSON, b"{}", host="evil.example")

    assert b"session_id" not in reply.body
    assert b"evil" not in reply.body


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Host", "Forwarded", "X-Host", "X-Original-Host", "X-HTTP-Host-Override"]
)
def test_forwarded_names_count_for_nothing(server, header):
    """Whatever a header says that the Host was, the Host counts."""
    for said in ("localhost", f"host={netloc(server)}"):
        reply = send(
            server, "POST", "/API/GetNewSession", [*JSON, (header, said)], b"{}", host="evil.example"
        )
        assert 403 == reply.status
    assert 200 == send(server, "POST", "/API/GetNewSession", [*JSON, (header, "evil.example")], b"{}").status


def test_absolute_targets(server):
    """A target with another authority in it is no way around the Host, nor a way to the API."""
    for target in ("http://localhost/API/GetNewSession", "//localhost/API/GetNewSession"):
        assert 403 == send(server, "POST", target, JSON, b"{}", host="evil.example").status
    reply = send(server, "POST", "http://evil.example/API/GetNewSession", JSON, b"{}")
    assert b"session_id" not in reply.body


def test_old_versions_need_a_name_too(server):
    """HTTP/1.0, which knows no Host, gets nothing without one."""
    with dial(server) as connection:
        connection.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    ("authority", "host", "status"),
    [
        ("localhost", None, 200),
        ("evil.example", None, 403),
        ("evil.example", "localhost", 403),
        ("localhost", "evil.example", 403),
        (None, "evil.example", 403),
        (None, None, 403),
    ],
)
def test_http_2(server, authority, host, status):
    """Over HTTP/2 the authority is the Host; where both are there and differ, the request is refused."""
    headers = [(":method", "GET"), (":scheme", "http"), (":path", "/health/live")]
    headers += [(":authority", authority)] if authority else []
    headers += [("host", host)] if host else []

    found = over_http_2(server, headers)

    assert status == found or (status == 403 and found in {0, 400})


def over_http_2(server, headers) -> int:
    """The status of one request with these headers; 0 if the stream or connection was refused."""
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import ConnectionTerminated, ResponseReceived, StreamReset

    h2 = H2Connection(H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False))
    h2.initiate_connection()
    h2.send_headers(1, headers, end_stream=True)
    with dial(server) as connection:
        connection.sendall(h2.data_to_send())
        while data := connection.recv(65536):
            for event in h2.receive_data(data):
                if isinstance(event, ResponseReceived):
                    return int(dict(event.headers)[b":status"])
                if isinstance(event, ConnectionTerminated | StreamReset):
                    return 0
    return 0


def test_the_address_that_was_dialled(start):
    """On a network the address that the client connected to is a name too, and no other address is."""
    server = start("--host", "0.0.0.0", "--allow-open-network")

    def status(host, to) -> Reply:
        return send(server, "POST", "/API/GetNewSession", JSON, b"{}", host=host, to=to).status

    assert [200, 200] == [status(h, "127.0.0.2") for h in ("127.0.0.2", f"127.0.0.2:{port(server)}")]
    assert 101 == upgrade(server, host="127.0.0.2", to="127.0.0.2").status
    assert 200 == status("127.0.0.1", "127.0.0.2")
    assert 403 == status("127.0.0.2", "127.0.0.1")
    assert 403 == upgrade(server, host="127.0.0.2", to="127.0.0.1").status
    assert [403, 403] == [status(h, "127.0.0.2") for h in ("127.0.0.3", "evil.example")]
    assert [403, 403] == [status(h, "127.0.0.2") for h in ("127.2", "2130706434")]


def test_the_address_that_was_dialled_on_both_stacks(start):
    """A server on both stacks knows an IPv4 address by its usual form."""
    server = start("--host", "::", "--allow-open-network")

    def status(host, to):
        return send(server, "POST", "/API/GetNewSession", JSON, b"{}", host=host, to=to).status

    assert [200, 200] == [status(h, "::1") for h in ("[::1]", "localhost")]
    assert [200, 403] == [status("127.0.0.2", to) for to in ("127.0.0.2", "127.0.0.1")]
