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
from swarmkernel.arrivals import Quota
from swarmkernel.errors import StartupError
from swarmkernel.kernel import Kernel
from swarmkernel.settings import MIB, ServerSettings

log = logging.getLogger(__name__)

PORT_IN_USE = 98
#: Whatever hangs while stopping, the process ends this long after the drain limit.
LAST_RESORT_SECONDS = 15.0
TOGETHER_SECONDS = 1.0
#: Files that the server has open beside connections: the database, logs, pipes to processes, what it serves.
OWN_FILES = 128


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


def _check_tls(settings: ServerSettings) -> None:
    """See that certificate and key fit, before anybody connects."""
    if not settings.tls_cert and not settings.tls_key:
        return
    import ssl  # noqa: PLC0415

    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            settings.tls_cert, settings.tls_key
        )
    except OSError as exc:  # ssl.SSLError is one
        raise StartupError(
            f"tls_cert and tls_key in [server] cannot be used: {exc.strerror or exc}"
        ) from None


def run(kernel: Kernel) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit code."""
    _check_tls(kernel.server)
    listener = listen(kernel.server)
    _raise_fd_limit()
    return asyncio.run(_serve(kernel, listener))


async def _serve(kernel: Kernel, listener: socket.socket) -> int:
    from hypercorn.asyncio import serve  # noqa: PLC0415  # heavy, and only needed here
    from hypercorn.utils import LifespanFailureError  # noqa: PLC0415

    app = create_app(kernel)
    stop = _stop_on_signals()
    name, port = listener.getsockname()[:2]
    config = _config(app, listener.detach())

    async def trigger() -> None:
        # In one piece: records of other threads may come between text and line end.
        sys.stderr.write(f"swarmkernel: serving on {_url(kernel.server, name, port)}\n")
        sys.stderr.flush()
        await stop.wait()
        await drain(app)

    try:
        await serve(app, config, shutdown_trigger=trigger)
    except LifespanFailureError:
        raise app.startup_error or StartupError("a plugin ended the start") from None
    return 0


def _url(settings: ServerSettings, name: str, port: int) -> str:
    """Where a client on this machine finds the server."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104
    return f"{'https' if settings.tls_cert else 'http'}://{f'[{here}]' if ':' in here else here}:{port}"


def _config(app: App, listener: int) -> Any:
    from hypercorn.config import Config  # noqa: PLC0415

    from swarmkernel.hypercorn_mends import PING_SECONDS, mend  # noqa: PLC0415

    settings = app.kernel.server
    most = _connections(settings)
    mend(
        Quota(most, settings.connections_per_client, settings.trusted_proxies),
        app.arriving,
        app.message_limit,
    )
    config = Config()
    if settings.tls_cert:
        config.certfile, config.keyfile = settings.tls_cert, settings.tls_key
        config.insecure_bind = []
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


def _connections(settings: ServerSettings) -> int:
    """How many connections to take: fewer than wanted where the system lets us open few files."""
    with suppress(ImportError, OSError):
        import resource  # noqa: PLC0415

        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = max(files - OWN_FILES, OWN_FILES // 2)
        if files != resource.RLIM_INFINITY and room < settings.max_connections:
            log.warning(
                "the system allows %d open files, so at most %d connections are taken, and not %d; raise `ulimit -n`",
                files,
                room,
                settings.max_connections,
            )
            return room
    return settings.max_connections
