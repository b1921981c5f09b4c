"""Requests byte by byte, for all that HTTP clients would tidy up or refuse to send."""

import contextlib
import json
import socket
import struct
import time
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

import attrs

JSON = (("Content-Type", "application/json"),)
UPGRADE = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


@attrs.frozen
class Reply:
    """What came back. *status* 0 is a connection that was closed without an answer."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def error_id(self) -> str | None:
        """The error id in the body, if that is JSON with one."""
        try:
            return json.loads(self.body).get("error_id")
        except (ValueError, AttributeError):
            return None


def netloc(server) -> str:
    """The name and port that a client calls a live server by."""
    return urlsplit(server.url).netloc


def port(server) -> int:
    """The port of a live server."""
    return urlsplit(server.url).port


def dial(server, to: str = "127.0.0.1", *, via: str | None = None, timeout: float = 10) -> socket.socket:
    """A connection to a live server at the address *to*, from the address *via*."""
    source = (via, 0) if via else None
    return socket.create_connection((to, port(server)), timeout=timeout, source_address=source)


def lines(method: str, target: str | bytes, headers, body: bytes = b"") -> bytes:
    """A request as it goes over the wire; a header may be a line of bytes too."""
    target = target.encode() if isinstance(target, str) else target
    head = [method.encode() + b" " + target + b" HTTP/1.1"]
    head += [h if isinstance(h, bytes) else f"{h[0]}: {h[1]}".encode("latin-1") for h in headers]
    if body:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def read(connection: socket.socket, method: str = "GET") -> Reply:
    """The next answer on a connection."""
    response = HTTPResponse(connection, method=method)
    try:
        response.begin()
        body = b"" if response.status == 101 else response.read()
        return Reply(response.status, tuple(response.getheaders()), body)
    except (HTTPException, ConnectionError):
        return Reply(0)
    finally:
        response.close()


def send(
    server, method="GET", target="/", headers=(), body=b"", *, host=None, to="127.0.0.1", via=None
) -> Reply:
    """
    One request on a connection of its own.

    *host* is the Host header: by default the right one, none if empty bytes, several if a list.
    """
    hosts = [netloc(server)] if host is None else host if isinstance(host, list) else [host]
    first = [b"Host: " + (h.encode() if isinstance(h, str) else h) for h in hosts if h != b""]
    last = [] if any(h[0] == "Connection" for h in headers) else [("Connection", "close")]
    with dial(server, to, via=via) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(lines(method, target, [*first, *headers, *last], body))
        return read(connection, method)


def upgrade(server, target="/API/GenerateText2ImageWS", headers=(), **kwargs) -> Reply:
    """Ask for a WebSocket; 101 is yes."""
    return send(server, "GET", target, [*UPGRADE, *headers], **kwargs)


@contextlib.contextmanager
def keep_alive(server):
    """A function that sends many requests over as few connections as the server allows."""
    open_ones: list[socket.socket] = []

    def ask(target: bytes, method: str = "GET", headers=()) -> Reply:
        for attempt in range(2):
            if not open_ones:
                open_ones.append(dial(server))
            try:
                open_ones[0].sendall(lines(method, target, [("Host", netloc(server)), *headers]))
                reply = read(open_ones[0], method)
            except ConnectionError:
                reply = Reply(0)
            if reply.status == 0 or "close" in [v.lower() for v in reply.all("connection")]:
                open_ones.pop().close()
            if reply.status or attempt:
                break
        return reply

    try:
        yield ask
    finally:
        for connection in open_ones:
            connection.close()


def until_closed(connection: socket.socket, seconds: float) -> tuple[bytes, float]:
    """All bytes until the other side closes, and how long that took; TimeoutError if it does not."""
    began, heard = time.monotonic(), b""
    connection.settimeout(seconds)
    while time.monotonic() - began < seconds:
        try:
            more = connection.recv(65536)
        except ConnectionError:
            more = b""
        if not more:
            return heard, time.monotonic() - began
        heard += more
    raise TimeoutError(f"still open after {seconds} seconds, having said {heard[:200]!r}")


def frame(data: bytes, *, opcode: int = 1, final: bool = True) -> bytes:
    """A masked WebSocket frame."""
    head = bytes([(0x80 if final else 0) | opcode])
    if len(data) < 126:
        length = bytes([0x80 | len(data)])
    elif len(data) < 65536:
        length = b"\xfe" + struct.pack(">H", len(data))
    else:
        length = b"\xff" + struct.pack(">Q", len(data))
    return head + length + b"\0\0\0\0" + data
