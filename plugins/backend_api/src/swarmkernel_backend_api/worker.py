"""The worker process: one backend, driven by frames on its standard input, answering on what was its standard output."""

import asyncio
import contextlib
import ctypes
import faulthandler
import importlib
import logging
import operator
import os
import signal
import sys
import threading
from typing import Any, BinaryIO, Final, NoReturn

import attrs

from swarmkernel_backend_api import frames
from swarmkernel_backend_api.capability import Capability
from swarmkernel_backend_api.errors import BackendError, NotConfiguredError
from swarmkernel_backend_api.frames import FromWorker, ToWorker

log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG: Final = 1
_PIPE_BYTES: Final = 1 << 20
_FIRST_FRAME_LIMIT: Final = 16 << 20


def resolve(address: str) -> Any:
    """What ``module:qualname`` names."""
    module, _, name = address.partition(":")
    return operator.attrgetter(name)(importlib.import_module(module))


def readable(error: Exception) -> BackendError:
    """An exception of a backend as its caller sees it."""
    if isinstance(error, BackendError):
        return error
    error_id = "gpu_oom" if type(error).__name__ == "OutOfMemoryError" else "backend_failed"
    return BackendError(f"{type(error).__name__}: {error}", error_id)


def abilities(backend: object) -> frozenset[str]:
    """The names of a backend's public methods."""
    return frozenset(
        n for n in dir(type(backend)) if not n.startswith("_") and callable(getattr(backend, n, None))
    )


@attrs.define(eq=False)
class Pipe:
    """The way to the server; any thread may send."""

    file: BinaryIO
    limit: int = _FIRST_FRAME_LIMIT
    _lock: Any = attrs.field(factory=threading.Lock, init=False)

    def send(self, frame: FromWorker) -> None:
        """Send a frame, in one piece."""
        data = frames.encode(frame, FromWorker, self.limit)
        with self._lock:
            self.file.write(data)
            self.file.flush()


class PipeHandler(logging.Handler):
    """Forwards log records to the server."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        # Level and name travel beside the text; basicConfig would put them into it as well.
        self.setFormatter(logging.Formatter())
        self.pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; a server that is gone is noticed elsewhere."""
        with contextlib.suppress(Exception):
            self.pipe.send(frames.Log(record.levelno, record.name, self.format(record)[:16384]))


@attrs.define(eq=False)
class Worker:
    """A backend and its running calls."""

    pipe: Pipe
    backend: Any = None
    stopping: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _calls: dict[int, asyncio.Task[None]] = attrs.field(factory=dict, init=False)
    _interrupted: set[int] = attrs.field(factory=set, init=False)
    _start: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    def handle(self, frame: ToWorker) -> None:
        """Act on a frame."""
        match frame:
            case frames.Open():
                self._start = asyncio.ensure_future(self._open(frame))
            case frames.Invoke():
                task = asyncio.ensure_future(self._invoke(frame))
                self._calls[frame.call] = task
                task.add_done_callback(lambda _task: self._calls.pop(frame.call, None))
            case frames.Cancel():
                if task_ := self._calls.get(frame.call):
                    self._interrupted.add(frame.call)
                    task_.cancel()
            case frames.Stop():
                self.stopping.set()

    async def _open(self, frame: frames.Open) -> None:
        self.pipe.limit = frame.max_frame
        threading.Thread(target=self._beat, args=(frame.heartbeat_seconds,), daemon=True).start()
        try:
            # Imports run in a thread so that a stop during a long one is obeyed.
            make, kind = await asyncio.to_thread(lambda: (resolve(frame.make), resolve(frame.settings_type)))
            self.backend = make(frames.load_as(kind, frame.settings))
            await self.backend.start()
            features = sorted(getattr(self.backend, "features", ()))
            self.pipe.send(frames.Started(sorted(abilities(self.backend)), features))
        except Exception as error:  # noqa: BLE001  # the server hears of whatever it was
            _log_unless_meant(error, "The backend did not start")
            said = readable(error)
            self.pipe.send(frames.Refused(said.text, said.error_id, isinstance(said, NotConfiguredError)))

    async def _invoke(self, frame: frames.Invoke) -> None:
        try:
            await self._run(frame, resolve(frame.capability))
        except asyncio.CancelledError:
            # A call that ends because the worker does is lost, not done: its caller hears so from the server's side.
            if frame.call in self._interrupted:
                self.pipe.send(frames.Done(frame.call))
            elif not self.stopping.is_set():
                self.pipe.send(
                    frames.Failed(frame.call, f"{frame.capability} cancelled itself", "backend_failed")
                )
        except Exception as error:  # noqa: BLE001
            _log_unless_meant(error, f"{frame.capability} failed")
            said = readable(error)
            self.pipe.send(frames.Failed(frame.call, said.text, said.error_id))
        else:
            self.pipe.send(frames.Done(frame.call))
        finally:
            self._interrupted.discard(frame.call)

    async def _run(self, frame: frames.Invoke, capability: Capability) -> None:
        request = frames.load_as(capability.request, frame.request)
        result = capability.call(getattr(self.backend, capability.name), request)
        if not capability.streams:
            self._reply(frame.call, capability, await result)
            return
        async with contextlib.aclosing(result):
            async for value in result:
                self._reply(frame.call, capability, value)

    def _reply(self, call: int, capability: Capability, value: Any) -> None:
        if not capability.is_reply(value):
            raise BackendError(
                f"{capability.name} gave a {type(value).__name__}, which is no reply of it.", "bad_message"
            )
        try:
            self.pipe.send(frames.Reply(call, frames.dump_as(capability.reply, value)))
        except frames.FrameError as error:
            raise BackendError(f"A {type(value).__name__} cannot be sent: {error}", "bad_message") from error

    def _beat(self, seconds: float) -> None:
        while True:
            self.pipe.send(frames.Beat())
            threading.Event().wait(seconds)

    async def close(self) -> None:
        """End what runs, then the backend."""
        tasks = [task for task in (*self._calls.values(), self._start) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.backend is not None:
            await self.backend.stop()


def _log_unless_meant(error: Exception, text: str) -> None:
    if not isinstance(error, BackendError):
        log.error(text, exc_info=error)


def _listen(file: BinaryIO, worker: Worker, loop: asyncio.AbstractEventLoop) -> NoReturn:
    """Hand frames to the loop. The end of the pipe means that the server is gone, so this process goes too, whatever it does."""
    with contextlib.suppress(Exception):
        while frame := frames.read(file, ToWorker, worker.pipe.limit):
            loop.call_soon_threadsafe(worker.handle, frame)
    os._exit(0)


async def _serve(source: BinaryIO, pipe: Pipe) -> None:
    worker = Worker(pipe)
    loop = asyncio.get_running_loop()
    threading.Thread(target=_listen, args=(source, worker, loop), daemon=True).start()
    await worker.stopping.wait()
    try:
        await worker.close()
    except Exception:
        log.exception("The backend did not stop cleanly")


def _guard_process() -> None:
    """Die with the server, leave no core files, leave Ctrl-C to the server, and say where a crash happened."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    if sys.platform != "win32":
        import resource  # noqa: PLC0415  # not there on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes for frames; from now on nothing else reads from or prints into them."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    sys.stdout.flush()
    os.dup2(2, 1)
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415  # not there on Windows

        with contextlib.suppress(OSError):  # a larger pipe moves a picture in a fraction of the turns
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return source, sink


def main() -> NoReturn:
    """Serve one backend until told to stop."""
    source, sink = _take_pipes()
    _guard_process()
    sink.write(frames.PREAMBLE)
    pipe = Pipe(sink)
    logging.basicConfig(level=logging.INFO, handlers=[PipeHandler(pipe)])
    asyncio.run(_serve(source, pipe))
    # Threads and exit handlers of heavy libraries must not keep the process.
    os._exit(0)
