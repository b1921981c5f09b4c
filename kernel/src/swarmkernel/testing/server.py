"""A server in a process of its own, and a client that speaks to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import attrs
import orjson

from swarmkernel.errors import StartupError

if TYPE_CHECKING:
    import httpx
    from websockets.sync.client import ClientConnection


@attrs.define
class Client:
    """One session's calls. *session_id* is sent with every call unless it is None."""

    url: str
    session_id: str | None = None
    http: httpx.Client = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        import httpx  # noqa: PLC0415  # of the extra, and this module is loaded by every pytest run

        self.http = httpx.Client(base_url=self.url, timeout=120)

    def raw(self, route: str, body: Any = None, **kwargs: Any) -> httpx.Response:
        """POST *body* as it is."""
        return self.http.post(f"/API/{route}", json={} if body is None else body, **kwargs)

    def post(self, route: str, **body: Any) -> Any:
        """Call a route with the session and return its JSON, whatever the status."""
        if self.session_id is not None:
            body = {"session_id": self.session_id, **body}
        return self.raw(route, body).json()

    def login(self) -> Self:
        """Open a session."""
        self.session_id = self.raw("GetNewSession").json()["session_id"]
        return self

    @contextmanager
    def socket(self, route: str, **body: Any) -> Iterator[ClientConnection]:
        """A WebSocket whose first message has been sent."""
        from websockets.sync.client import connect  # noqa: PLC0415

        with connect(
            f"{self.url.replace('http', 'ws', 1)}/API/{route}", max_size=None, compression=None, proxy=None
        ) as ws:
            ws.send(orjson.dumps({"session_id": self.session_id, **body}).decode())
            yield ws

    def stream(self, route: str, **body: Any) -> list[Any]:
        """All messages of a WebSocket route until it closes."""
        with self.socket(route, **body) as ws:
            return [orjson.loads(message) for message in ws]

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


@attrs.define
class LiveServer:
    """
    ``swarmkernel serve`` on a free port.

    Args:
        data_dir: everything that the server keeps.
        args: further options, such as ``["--disable", "basic_api"]``.
        env: variables added to this process's own.
        python: the interpreter whose installation is run.
    """

    data_dir: Path
    args: list[str] = attrs.field(factory=list)
    env: Mapping[str, str] = attrs.field(factory=dict)
    python: str = sys.executable
    url: str = attrs.field(default="", init=False)
    log: list[str] = attrs.field(factory=list, init=False)
    process: subprocess.Popen[str] | None = attrs.field(default=None, init=False)
    _clients: list[Client] = attrs.field(factory=list, init=False)
    _ready: threading.Event = attrs.field(factory=threading.Event, init=False)
    _reader: threading.Thread | None = attrs.field(default=None, init=False)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self, timeout: float = 60.0) -> Self:
        """Start and wait until it serves; StartupError with its log if it ends or takes too long."""
        command = [self.python, "-m", "swarmkernel", "serve", "--port", "0", "--data-dir", str(self.data_dir)]
        self._ready.clear()
        self.log.clear()
        self.process = subprocess.Popen(  # noqa: S603  # our own command
            [*command, *self.args],
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        if not self._ready.wait(timeout) or not self.url:
            self.kill()
            raise StartupError("the server did not start:\n" + "".join(self.log))
        return self

    def _read(self, stream: IO[str]) -> None:
        self.url = ""
        for line in stream:
            self.log.append(line)
            if found := re.search(r"serving on (https?://\S+)", line):
                self.url = found[1]
                self._ready.set()
        self._ready.set()
        stream.close()

    def client(self, *, login: bool = True) -> Client:
        """A client, with a session if *login*; it is closed when the server ends."""
        client = Client(self.url)
        self._clients.append(client)
        return client.login() if login else client

    def stop(self, timeout: float = 60.0) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> int:
        """Send SIGKILL, wait, and return the exit code."""
        return self._end(signal.SIGKILL, 10)

    def _end(self, number: int, timeout: float) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise
        if self._reader is not None:
            self._reader.join(10)
        while self._clients:
            self._clients.pop().close()
        return code

    def wait_for_log(self, pattern: str, timeout: float = 20.0) -> str:
        """The first log line that matches *pattern*, or TimeoutError with the log."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            for line in list(self.log):
                if re.search(pattern, line):
                    return line
            time.sleep(0.02)
        raise TimeoutError(f"no log line matches {pattern!r}:\n" + "".join(self.log))
