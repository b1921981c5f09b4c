"""The server's side of a worker process: starting it, calling it, and seeing its end."""

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import signal
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final

import attrs

from swarmkernel_backend_api import frames
from swarmkernel_backend_api.capability import Capability
from swarmkernel_backend_api.errors import BackendError, NotConfiguredError, WorkerLostError
from swarmkernel_backend_api.frames import FromWorker, ToWorker
from swarmkernel_backend_api.interpreters import Interpreter, bare
from swarmkernel_backend_api.logs import Forwarder
from swarmkernel_backend_api.processes import ending, environment, new_future, oom_kills, signal_group
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.types import BackendType, address_of

log = logging.getLogger(__name__)
_CALLS: Final = itertools.count(1)
"""Numbers calls over all workers, so that a late word of a dead worker can never name a call of its successor."""
_READ_AHEAD: Final = 4 << 20


@attrs.define(eq=False)
class WorkerHost:
    """A backend in a process of its own, watched."""

    kind: BackendType
    settings: Any
    limits: BackendApiSettings
    label: str
    interpreter: Interpreter = attrs.field(factory=Interpreter)
    abilities: frozenset[str] = attrs.field(default=frozenset(), init=False)
    features: tuple[str, ...] = attrs.field(default=(), init=False)
    lost: "asyncio.Future[WorkerLostError]" = attrs.field(factory=new_future, init=False)
    _ready: "asyncio.Future[None]" = attrs.field(factory=new_future, init=False)
    _process: asyncio.subprocess.Process | None = attrs.field(default=None, init=False)
    _calls: "dict[int, asyncio.Queue[Any]]" = attrs.field(factory=dict, init=False)
    _tasks: "set[asyncio.Task[None]]" = attrs.field(factory=set, init=False)
    _watchers: "list[asyncio.Task[None]]" = attrs.field(factory=list, init=False)
    _exit: "asyncio.Task[None] | None" = attrs.field(default=None, init=False)
    _why: str = attrs.field(default="", init=False)
    _gone: Callable[[], WorkerLostError] | None = attrs.field(default=None, init=False)
    _silent: int = attrs.field(default=0, init=False)
    _oom_kills: tuple[int, int] = attrs.field(factory=lambda: (oom_kills(), oom_kills()), init=False)

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the process and the backend in it."""
        settings = bare(self.kind.settings)
        opening = frames.Open(
            make=address_of(self.kind.make),
            settings_type=address_of(settings),
            settings=frames.dump_as(settings, self.settings),
            heartbeat_seconds=self.limits.heartbeat_seconds,
            max_frame=self._max_frame,
        )
        seen = environment(os.environ, self.limits.threads, self.limits.keep_environment)
        env = self.interpreter.environment(seen)
        await self.interpreter.check(self.kind, env)
        self._process = await asyncio.create_subprocess_exec(
            self.interpreter.path,
            *("-P", "-m", "swarmkernel_backend_api"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            limit=_READ_AHEAD,
            # Ctrl-C in a terminal goes to the server alone, which then ends its workers in good order.
            start_new_session=True,
        )
        log.info("%s: worker process %d starts", self.label, self._process.pid)
        self._exit = asyncio.create_task(self._watch_exit(self._process))
        self._watchers.append(asyncio.create_task(self._watch_heartbeat()))
        await self._send(opening)
        await asyncio.shield(self._ready)

    @property
    def _max_frame(self) -> int:
        return self.limits.max_frame_mib << 20

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send(self, frame: ToWorker) -> None:
        data = frames.encode(frame, ToWorker, self._max_frame)
        writer = self._process.stdin if self._process else None
        if writer is None or writer.is_closing():
            return  # the end of the process is reported by its watcher
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()

    async def invoke(self, capability: Capability, request: Any) -> AsyncGenerator[Any, None]:
        """Call the backend's method in the worker."""
        if self._gone:
            raise self._gone()
        if capability.name not in self.abilities:
            raise BackendError(f"{self.label} cannot {capability.name}.", "not_supported")
        number, queue = next(_CALLS), asyncio.Queue[Any]()
        frame = frames.Invoke(number, capability.at, frames.dump_as(capability.request, request))
        self._calls[number] = queue
        ended = False
        try:
            try:
                await self._send(frame)
            except frames.FrameError as error:
                ended = True
                raise BackendError(f"The request is too large: {error}", "bad_message") from error
            while not (ended := not isinstance(answer := await queue.get(), frames.Reply)):
                yield frames.load_as(capability.reply, answer.value)
            if isinstance(answer, WorkerLostError):
                raise answer
            if isinstance(answer, frames.Failed):
                raise BackendError(answer.text, answer.error_id)
        finally:
            if ended:
                self._calls.pop(number, None)
            else:
                # Shielded, so that a caller who is cancelled twice still leaves no call behind.
                await asyncio.shield(self._spawn(self._interrupt(number, queue)))

    async def _interrupt(self, number: int, queue: "asyncio.Queue[Any]") -> None:
        try:
            async with asyncio.timeout(self.limits.interrupt_seconds):
                await self._send(frames.Cancel(number))
                while isinstance(await queue.get(), frames.Reply):
                    pass
        except TimeoutError:
            await self._end(f"did not obey an interrupt within {self.limits.interrupt_seconds:g} s")
        finally:
            self._calls.pop(number, None)

    def _handle(self, frame: FromWorker) -> None:
        match frame:
            case frames.Started() if not self._ready.done():
                self.abilities, self.features = frozenset(frame.abilities), tuple(frame.features)
                self._ready.set_result(None)
            case frames.Refused() if not self._ready.done():
                kind = NotConfiguredError if frame.not_configured else BackendError
                self._ready.set_exception(kind(frame.text, frame.error_id))
            case frames.Reply() | frames.Done() | frames.Failed():
                if queue := self._calls.get(frame.call):
                    queue.put_nowait(frame)
            case _:
                pass

    async def _read(self, stdout: asyncio.StreamReader, forwarder: Forwarder) -> None:
        try:
            await stdout.readuntil(frames.PREAMBLE)
            while (frame := await frames.receive(stdout, FromWorker, self._max_frame)) is not None:
                self._silent = 0
                if isinstance(frame, frames.Log):
                    forwarder.log(min(frame.level, logging.ERROR), f"{frame.name}: {frame.text}")
                else:
                    self._handle(frame)
        except asyncio.IncompleteReadError:
            pass
        except (frames.FrameError, asyncio.LimitOverrunError) as error:
            self._spawn(self._end(f"sent garbage ({error})"))
        else:
            self._watchers.append(asyncio.create_task(self._end_later()))

    async def _end_later(self) -> None:
        """A worker that closed its pipe but lives on is of no use."""
        await asyncio.sleep(self.limits.terminate_seconds)
        self._spawn(self._end("closed its pipe"))

    async def _read_stderr(self, stderr: asyncio.StreamReader, forwarder: Forwarder) -> None:
        while data := await stderr.read(65536):
            forwarder.feed(data)
        forwarder.feed(b"\n")

    async def _watch_heartbeat(self) -> None:
        """Counts own ticks and not the clock, so that a server that was busy itself does not blame the worker."""
        allowed = self.limits.heartbeat_limit_seconds / self.limits.heartbeat_seconds
        while self._silent <= allowed:
            await asyncio.sleep(self.limits.heartbeat_seconds)
            self._silent += 1
            self._oom_kills = (self._oom_kills[1], oom_kills())  # of two ticks: older ones were others'
        self._spawn(self._end(f"gave no sign of life for {self.limits.heartbeat_limit_seconds:g} s"))

    async def _watch_exit(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101  # both are pipes
        assert process.stderr is not None  # noqa: S101
        forwarder = Forwarder(log, self.label, self.limits.log_lines_per_second)
        readers = [
            asyncio.create_task(self._read(process.stdout, forwarder)),
            asyncio.create_task(self._read_stderr(process.stderr, forwarder)),
        ]
        code = await process.wait()
        signal_group(process.pid, signal.SIGKILL)  # whatever it started itself
        for watcher in self._watchers:
            watcher.cancel()
        # What the worker said before its end still counts.
        _, late = await asyncio.wait(readers, timeout=1.0)
        for task in late:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        self._report(ending(code), out_of_memory=code == -signal.SIGKILL and oom_kills() > self._oom_kills[0])

    def _report(self, how: str, *, out_of_memory: bool) -> None:
        if out_of_memory and not self._why:
            text = f"The worker of {self.label} ran out of memory."
            self._gone = functools.partial(WorkerLostError, text, "worker_oom", may_retry=False)
        else:
            self._gone = functools.partial(WorkerLostError, f"The worker of {self.label} {self._why or how}.")
        if not self._ready.done():
            self._ready.set_exception(self._gone())
            self._ready.exception()  # nobody may be waiting any more
        if not self.lost.done():
            self.lost.set_result(self._gone())
        # Callers wake after the supervisor, so that they find the backend errored and do not choose it again.
        for queue in self._calls.values():
            queue.put_nowait(self._gone())

    async def _end(self, why: str) -> None:
        """End the process because it misbehaved: SIGTERM, then SIGKILL."""
        if self._process is None or self._exit is None or self._exit.done():
            return
        self._why = self._why or why
        log.warning("%s: worker process %d %s; it is ended", self.label, self._process.pid, why)
        signal_group(self._process.pid, signal.SIGTERM)
        await self._gone_within(self.limits.terminate_seconds, self._process.pid, self._exit)

    async def _gone_within(self, seconds: float, pid: int, end: "asyncio.Task[None]") -> None:
        if not (await asyncio.wait([end], timeout=seconds))[0]:
            signal_group(pid, signal.SIGKILL)
            await asyncio.wait([end])

    async def stop(self) -> None:
        """Ask the worker to stop, wait a little, kill."""
        if self._process is None or self._exit is None:
            return
        self._why = self._why or "was stopped"
        self._spawn(self._send(frames.Stop()))
        await self._gone_within(self.limits.stop_seconds, self._process.pid, self._exit)
