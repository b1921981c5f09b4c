"""Running the application on Hypercorn, and stopping it so that the process really ends."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from swarmkernel.app import App, create_app
from swarmkernel.errors import StartupError
from swarmkernel.kernel import Kernel
from swarmkernel.settings import MIB, ServerSettings

log = logging.getLogger(__name__)

PORT_IN_USE = 98
#: Whatever hangs while stopping, the process ends this long after the drain limit.
LAST_RESORT_SECONDS = 15.0
TOGETHER_SECONDS = 1.0
PING_SECONDS = 20


class PortInUseError(StartupError):
    """Another program listens on the port."""


def listen(settings: ServerSettings) -> socket.socket:
    """A bound socket; PortInUseError or StartupError with what to do about it."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as exc:
        where = f"{settings.host}:{settings.port}"
        if exc.errno == errno.EADDRINUSE:
            raise PortInUseError(f"{where} is in use by another program; choose another --port") from None
        raise StartupError(f"cannot listen on {where}: {exc.strerror or exc}") from None
    listener.set_inheritable(False)
    return listener


def run(kernel: Kernel) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit code."""
    listener = listen(kernel.server)
    _raise_fd_limit()
    return asyncio.run(_serve(kernel, listener))


async def _serve(kernel: Kernel, listener: socket.socket) -> int:
    from hypercorn.asyncio import serve  # noqa: PLC0415  # heavy, and only needed here
    from hypercorn.utils import LifespanFailureError  # noqa: PLC0415

    app = create_app(kernel)
    stop = _stop_on_signals()
    name, port = listener.getsockname()[:2]
    config = _config(kernel.server, listener.detach())

    async def trigger() -> None:
        shown = f"[{name}]" if ":" in name else name
        print(f"swarmkernel: serving on http://{shown}:{port}", file=sys.stderr, flush=True)  # noqa: T201
        await stop.wait()
        await drain(app)

    try:
        await serve(app, config, shutdown_trigger=trigger)
    except LifespanFailureError:
        raise app.startup_error or StartupError("a plugin ended the start") from None
    return 0


def _config(settings: ServerSettings, listener: int) -> Any:
    from hypercorn.config import Config  # noqa: PLC0415

    _mend_hypercorn()
    config = Config()
    config.bind = [f"fd://{listener}"]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.websocket_max_message_size = settings.max_body_mb * MIB
    config.websocket_ping_interval = PING_SECONDS
    config.h11_max_incomplete_size = settings.max_header_kb * 1024
    config.h2_max_concurrent_streams = 32
    config.graceful_timeout = 3
    config.shutdown_timeout = settings.drain_seconds + 10
    config.startup_timeout = 600
    return config


def _mend_hypercorn() -> None:
    """Change what Hypercorn has no settings for."""
    from hypercorn.protocol import h11, ws_stream  # noqa: PLC0415

    # Compressed frames let 60 KB on the wire become 60 MiB in memory.
    ws_stream.server_extensions_handshake = lambda *_: None
    ws_stream.WSStream._send_pings = _send_pings  # noqa: SLF001
    h11.H11Protocol._check_protocol = _check_protocol  # noqa: SLF001


async def _send_pings(stream: Any) -> None:
    """Hypercorn's own sleeps on after the socket has closed, which keeps the connection's task and delays a stop."""
    from hypercorn.protocol.ws_stream import Ping  # noqa: PLC0415

    while not stream.closed:
        await stream._send_wsproto_event(Ping())  # noqa: SLF001
        for _ in range(PING_SECONDS):
            if stream.closed:
                return
            await asyncio.sleep(1)


async def _check_protocol(protocol: Any, request: Any) -> None:
    """
    Take HTTP/2 from a client that begins with it, and go on in HTTP/1.1 with one that asks to upgrade.

    An upgrade can carry requests past the rules of a proxy, and Hypercorn raises at a malformed one.
    """
    from hypercorn.protocol.h11 import H2ProtocolAssumedError  # noqa: PLC0415

    if (request.method, request.target, request.http_version) == (b"PRI", b"*", b"2.0"):
        raise H2ProtocolAssumedError(b"PRI * HTTP/2.0\r\n\r\n" + protocol.connection.trailing_data[0])


def _stop_on_signals() -> asyncio.Event:
    """
    An event that SIGTERM or SIGINT sets; a second one ends the process at once.

    Signals that come together count as one: a process group's SIGTERM reaches us directly and through `make`.
    """
    stop = asyncio.Event()
    first = 0.0

    def on_signal() -> None:
        nonlocal first
        if not stop.is_set():
            first = time.monotonic()
            stop.set()
        elif time.monotonic() - first > TOGETHER_SECONDS:
            log.warning("stopping at once")
            os._exit(1)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, on_signal)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(on_signal))
    return stop


async def drain(app: App) -> None:
    """
    Take no new work, let requests end up to the limit, then close the sockets.

    Hypercorn alone neither closes WebSockets nor, on Python 3.12 and later, ends while one is open.
    """
    settings = app.kernel.server
    log.info("stopping: running requests have %g seconds", settings.drain_seconds)
    app.kernel.stopping.set()
    _end_for_certain(settings.drain_seconds + LAST_RESORT_SECONDS)
    until = time.monotonic() + settings.drain_seconds
    while (app.busy or app.sockets) and time.monotonic() < until:
        await asyncio.sleep(0.02)
        idle = [s for s in app.sockets if s.idle]
        await asyncio.gather(*(s.close(1012, "server restart") for s in idle), return_exceptions=True)
    await asyncio.gather(
        *(s.close(1012, "server restart") for s in list(app.sockets)), return_exceptions=True
    )
    for _ in range(50):
        if not app.sockets:
            break
        await asyncio.sleep(0.02)


def _end_for_certain(seconds: float) -> None:
    def end() -> None:
        time.sleep(seconds)
        log.critical("still not stopped after %g seconds: ending the process", seconds)
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _raise_fd_limit() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  # absent on Windows

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
