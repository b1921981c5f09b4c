"""Connections that break the rules, or break off, cost the server nothing that lasts."""

import contextlib
import json
import socket
import struct
import time

import pytest

GET = b"GET /API/GetNewSession HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /API/GetNewSession HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
UPGRADE = (
    b"GET /API/GenerateText2ImageWS HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
RUBBISH = {
    "nothing": b"",
    "newlines": b"\r\n" * 2000,
    "binary": bytes(range(256)) * 64,
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "no version": b"GET /\r\n\r\n",
    "an old version": b"GET / HTTP/0.9\r\n\r\n",
    "a long line": b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
    "many headers": GET + b"".join(b"X-%d: 1\r\n" % n for n in range(5000)) + b"\r\n",
    "a long header": GET + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    "a bad header": GET + b"no colon\r\n\r\n",
    "half a header": GET + b"X-Half",
    "no host": b"POST /API/GetNewSession HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: evil.example\r\n\r\n",
    "another host": b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "NUL in the path": b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n{}",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a length that is no number": POST + b"Content-Length: many\r\n\r\n{}",
    "half a body": POST + b"Content-Length: 1000\r\n\r\n{",
    "a bad chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n{",
    "length and chunks": POST
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two requests in one": (POST + b"Content-Length: 2\r\n\r\n{}") * 2,
    "CONNECT": b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    "an upgrade to HTTP/2": GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: xx\r\n\r\n",
    "a bad upgrade": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "rubbish after an upgrade": UPGRADE + b"\xff" * 1000,
    "an unmasked frame": UPGRADE + b"\x81\x02{}",
    "a giant frame": UPGRADE + b"\x81\xff" + struct.pack(">Q", 2**62) + b"mask" + b"x" * 1000,
    "half a frame": UPGRADE + b"\x81\xfe\x03\xe8mask{",
    "a fragment without end": UPGRADE + b"\x01\x81\0\0\0\0{",
    "a ping too long": UPGRADE + b"\x89\xfe\x01\x00mask" + b"x" * 256,
    "a close of one byte": UPGRADE + b"\x88\x81\0\0\0\0x",
}


@contextlib.contextmanager
def connected(server):
    """A raw connection to the server."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        yield raw


def reset(raw):
    """Break the connection off without a word."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


def frame(message):
    """A masked text frame."""
    data = json.dumps(message).encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0xFE, len(data))
    return b"\x81" + length + b"\0\0\0\0" + data


@pytest.fixture(name="warm")
def _warm(paint, process_of, wait_until, no_complaint):
    """
    A server that has worked, and a function: its descriptors, threads and counters become as before.

    Its log must stay short and without tracebacks, and it must stop soon.
    """
    server = paint(
        SWARMKERNEL_SERVER__FIRST_MESSAGE_SECONDS="3",
        SWARMKERNEL_SERVER__BODY_SECONDS="3",
        PAINTER_SLOTS="50",
        SWARMKERNEL_T2I_API__MAX_SIMULTANEOUS="50",
    )
    client = server.client()
    for _ in range(10):
        client.post("GetMyUserData")
        client.post("GenerateText2Image", images=1, steps=1, width=64, height=64, prompt="warm")
    process = process_of(server)
    time.sleep(0.5)
    before, lines = (process.descriptors, process.threads), len(server.log)

    def calm():
        now = (process.descriptors, process.threads)
        return all(n <= b + 3 for n, b in zip(now, before, strict=True))

    def settle():
        wait_until(calm, 60, lambda: (before, process.descriptors, process.threads))
        wait_until(lambda: sum(client.post("GetCurrentStatus")["status"].values()) == 0)
        assert len(server.log) - lines < 60, "".join(server.log[lines : lines + 100])
        no_complaint(server)

    yield server, settle
    began = time.monotonic()
    assert 0 == server.stop()
    assert time.monotonic() - began < 20
    no_complaint(server)


@pytest.mark.parametrize("rounds", [1, pytest.param(30, marks=pytest.mark.soak)])
def test_rubbish(warm, rounds):
    """No bytes on a connection, complete or cut off at any end, hurt the server; other clients are served."""
    server, settle = warm
    client = server.client()
    for number in range(rounds):
        for data in RUBBISH.values():
            with connected(server) as raw:
                with contextlib.suppress(ConnectionError):
                    raw.sendall(data)
                if number % 2 == 0:
                    raw.settimeout(0.05)
                    with contextlib.suppress(OSError):
                        raw.recv(100_000)
            assert "status" in client.post("GetCurrentStatus")
    settle()


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.soak)])
def test_connections_that_break_off(warm, count):
    """Clients that vanish with a reset, at any point of a request, leave nothing behind."""
    server, settle = warm
    client = server.client()
    asked = {"session_id": client.session_id, "images": 1, "steps": 20, "width": 64, "height": 64}
    asked |= {"prompt": "slow noisy", "donotsave": True}
    for where in ("body", "upgrade", "first message", "generation", "many messages"):
        for _ in range(count):
            with connected(server) as raw:
                break_off(raw, where, asked)
        client.post("InterruptAll", other_sessions=True)
        settle()


def break_off(raw, where, asked):
    """Begin a request, and vanish."""
    if where == "body":
        raw.sendall(POST + b"Content-Length: 1000\r\n\r\n{")
    else:
        raw.sendall(UPGRADE)
        assert b"HTTP/1.1 101" == raw.recv(12)
    if where == "first message":
        raw.sendall(frame(asked)[:50])
    if where in {"generation", "many messages"}:
        raw.sendall(frame(asked) + frame({"images": None}) * (40 if where == "many messages" else 0))
        heard = b""
        while b"overall_percent" not in heard:
            more = raw.recv(65536)
            assert more, heard
            heard += more
    reset(raw)
