"""What strangers may hold of the server: connections, and memory for what is arriving."""

import socket
import ssl
import subprocess
import time
from contextlib import ExitStack

import httpx
import orjson
import pytest
from websockets.exceptions import ConnectionClosed

from swarmkernel.arrivals import Quota, share_of
from swarmkernel.errors import BusyError, StartupError


@pytest.mark.parametrize(
    ("address", "share"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
    ],
)
def test_shares(address, share):
    """An IPv4 address counts alone, IPv6 addresses of one network together."""
    assert share == share_of(address)


def test_quota():
    """One client cannot take more than its share, all together not more than there is, and what ends is given back."""
    quota = Quota(10, 4, ["192.0.2.99"])
    with quota.holding("192.0.2.1") as one, quota.holding("192.0.2.1") as again:
        one.take(3)
        with pytest.raises(BusyError):
            again.take(2)
        with quota.holding("192.0.2.99") as proxy, quota.holding("127.0.0.1") as local:
            proxy.take(5)
            with pytest.raises(BusyError):
                local.take(3)
            local.take(2)
            assert 10 == quota.used

    assert (0, {}) == (quota.used, dict(quota._held))


def test_connections_have_a_limit(probe):
    """Connections beyond the limit are answered 503 and closed, and there is room again when others end."""
    server = probe(SWARMKERNEL_SERVER__MAX_CONNECTIONS="5")
    port = int(server.url.rpartition(":")[2])
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as extra:
            assert extra.recv(100).startswith(b"HTTP/1.1 503 ")

    until = time.monotonic() + 5
    while True:
        try:
            assert 200 == httpx.get(f"{server.url}/health/live").status_code
            break
        except (httpx.TransportError, AssertionError):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_arriving_bodies_have_a_limit(probe):
    """While others' bodies hold all the memory for what arrives, a large one is answered 503, a small one as ever."""
    server = probe(SWARMKERNEL_SERVER__MAX_INCOMING_MB="2")
    port = int(server.url.rpartition(":")[2])
    client = server.client()
    head = (
        f"POST /API/Whole HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {3 * 1024 * 1024}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(head.encode() + b" " * (2 * 1024 * 1024 - 100_000))
        time.sleep(0.5)
        answer = client.raw("Whole", {"session_id": client.session_id, "text": "x" * 500_000})
        assert (503, "server_busy") == (answer.status_code, answer.json()["error_id"])
        assert "hello" == client.post("Echo", text="hello")["text"]
    time.sleep(0.2)

    assert 500_000 == len(client.post("Whole", text="x" * 500_000)["raw"]["text"])


def test_long_messages_are_cut(client):
    """A message a little over its route's limit gets an error, one far over it ends the connection with 1009."""
    little = client.stream("CountWS", to=1, pad="x" * 1_100_000)
    assert "basic_api" == little[0]["error_id"]

    with client.socket("CountWS", to=1, pad="x" * 3_000_000) as ws, pytest.raises(ConnectionClosed) as caught:
        ws.recv(timeout=10)
    assert 1009 == caught.value.rcvd.code


def test_unfinished_messages_are_counted(probe):
    """Unfinished WebSocket messages count as arriving, and no longer once they have arrived."""
    server = probe(SWARMKERNEL_SERVER__MAX_INCOMING_MB="1")
    client = server.client()
    large = {"session_id": client.session_id, "text": "x" * 500_000}
    meanwhile = []

    def parts():
        yield '{"text":"'
        yield "x" * 700_000
        time.sleep(0.5)
        meanwhile.append(client.raw("Whole", large).json())
        yield '"}'

    with client.socket("ChatWS") as ws:
        ws.send(parts())
        assert 700_000 == len(orjson.loads(ws.recv(timeout=5))["echo"]["text"])
        assert "raw" in client.raw("Whole", large).json()
    assert ["server_busy"] == [answer.get("error_id") for answer in meanwhile]


@pytest.fixture(name="certificate")
def _certificate(tmp_path):
    """The files of a certificate for localhost and of its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    request = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    command = ["openssl", *request.split(), "-out", str(cert), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def test_tls(probe, certificate):
    """With a certificate the server speaks HTTPS to pages of its own origin, and handlers know that it is secure."""
    cert, key = certificate
    server = probe(SWARMKERNEL_SERVER__TLS_CERT=str(cert), SWARMKERNEL_SERVER__TLS_KEY=str(key))
    port = server.url.rpartition(":")[2]
    with httpx.Client(
        base_url=f"https://localhost:{port}", verify=ssl.create_default_context(cafile=str(cert))
    ) as client:
        session = client.post("/API/GetNewSession", json={}).json()
        answer = client.post("/API/Where", json=session, headers={"origin": f"https://localhost:{port}"})

    assert answer.json()["secure"]
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://localhost:{port}/health/live")


def test_a_bad_certificate_stops_the_start(probe, certificate):
    """A certificate without its key stops the start with a line that says so."""
    with pytest.raises(StartupError, match="tls_cert and tls_key"):
        probe(SWARMKERNEL_SERVER__TLS_CERT=str(certificate[0]), SWARMKERNEL_SERVER__TLS_KEY="/nowhere")


def test_clients_behind_proxies(probe):
    """Behind a trusted proxy a client is the nearest hop that is not trusted, whatever else it claims; else the peer."""
    client = probe(
        "--allow-open-network",
        SWARMKERNEL_SERVER__TRUSTED_PROXIES='["127.0.0.1", "192.0.2.1"]',
    ).client()
    sent = {
        "203.0.113.9": "203.0.113.9",
        "198.51.100.1, 203.0.113.9": "203.0.113.9",
        "203.0.113.9, 192.0.2.1": "203.0.113.9",
        "1.2.3.4, junk": "127.0.0.1",
        "": "127.0.0.1",
    }

    for header, wanted in sent.items():
        response = client.raw("Where", {"session_id": client.session_id}, headers={"x-forwarded-for": header})
        assert wanted == response.json()["client"], header
        assert ["a=1", "b=2"] == response.headers.get_list("set-cookie")


def test_the_address_that_was_called(probe):
    """On all addresses a server answers to the one that a client connected to, and to no other that is not its own."""
    server = probe("--host", "0.0.0.0", "--allow-open-network")
    port = server.url.rpartition(":")[2]
    for host, status in (("127.0.0.2", 200), ("127.0.0.3", 403), ("0.0.0.0", 403), ("192.0.2.1", 403)):
        response = httpx.post(
            f"http://127.0.0.2:{port}/API/GetNewSession", json={}, headers={"host": f"{host}:{port}"}
        )
        assert status == response.status_code, host


def test_viewer(probe):
    """Outside the API a session id in the header says who asks; a wrong one is nobody; none is the local user."""
    client = probe(SWARMKERNEL_SERVER__TRUST_USER_HEADER="true").client()

    def who(**headers):
        return client.http.get("/who", headers=headers).json()[0]

    assert "local" == who()
    assert "local" == who(**{"x-session-id": client.session_id})
    assert who(**{"x-session-id": "0" * 40}) is None
    assert "bobx" == who(**{"x-swarm-user_id": "Bob/../x"})


def test_log_lines_cannot_be_forged(probe):
    """What a stranger sends appears in the log on the line where it is reported, with its control characters escaped."""
    server = probe(SWARMKERNEL_SERVER__LOG_LEVEL="DEBUG")
    client = server.client()
    client.post("Forbidden")
    client.http.get("/who%0a2026-01-01%20ERROR%20forged%1b[31m")
    client.post("Crash")
    server.stop()

    assert [] == [line for line in server.log if line.startswith("2026-01-01") or "\x1b" in line]
