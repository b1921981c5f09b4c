"""A base for backends whose jobs share one running batch, which is stepped in a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import queue
import stat
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import attrs

from swarmkernel_backend_api import BackendError, Freed, FreeMemory
from swarmkernel_models_api import Loaded, LoadModel, LoadProgress
from swarmkernel_t2i_api.sampling import SampleEvent
from swarmkernel_t2i_api.types import ImageJob, Output, Preview, Progress

if TYPE_CHECKING:
    from swarmkernel_t2i_api.init_picture import InitPicture

log = logging.getLogger(__name__)
T = TypeVar("T")
Listener = Callable[[SampleEvent], object]
#: The ``error_id`` of a device that ran out of memory; after such an error the backend's ``release`` is called.
OUT_OF_MEMORY = "gpu_oom"
#: What a worker that gives up ends with: "internal software error" of sysexits.h.
EXIT_CODE = 70


class Sampler(Protocol):
    """A loaded model at work on many jobs. All of it is called in the backend's thread, `active` from anywhere."""

    @property
    def path(self) -> Path:
        """What was loaded."""

    @property
    def active(self) -> int:
        """How many jobs are running."""

    def admit(self, job: ImageJob, init: InitPicture | None) -> None:
        """Let a job join the batch at the next step, or raise what is wrong with it; *init* is what it starts from."""

    def remove(self, job_id: str) -> None:
        """Forget a job, running or not."""

    def step(self) -> list[tuple[str, SampleEvent]]:
        """One step of the batch, and what came of it: events with the id of their job."""

    def vae(self, path: str) -> object:
        """Read the VAE of that file or folder, and keep it for the jobs that name it."""

    def forget(self) -> None:
        """Drop what can be made again."""


@attrs.define(eq=False)
class SteppingBackend(ABC):
    """
    One loaded model on one device.

    All computing happens in one thread, which steps the running batch and takes commands between two steps; the
    asyncio side only waits. A subclass says how to load (`make_sampler`), and what else is its own. A `start` of a
    subclass ends with this one's.
    """

    stuck_seconds: ClassVar[float] = 3600.0
    """How long one step or load may take. One that never ends would hold up all jobs: then the process ends."""

    _sampler: Sampler | None = attrs.field(default=None, init=False)
    _held: tuple[object, ...] | None = attrs.field(default=None, init=False)
    """What the sampler was made from, as `wanted` tells it."""
    _request: LoadModel | None = attrs.field(default=None, init=False)
    _commands: queue.SimpleQueue[Callable[[], None] | None] = attrs.field(
        factory=queue.SimpleQueue, init=False
    )
    _listeners: dict[str, Listener] = attrs.field(factory=dict, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)
    _loading: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)
    _stopping: bool = attrs.field(default=False, init=False)
    _since: float | None = attrs.field(default=None, init=False)
    """When the thread began what it is at."""
    _is_full: bool = attrs.field(default=False, init=False)
    _watchdog: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    @abstractmethod
    def make_sampler(self, request: LoadModel) -> Sampler:
        """Load a model, in the thread that computes; BackendError with what is wrong."""

    @property
    def in_system_memory(self) -> bool:
        """Whether a loaded model takes up system memory rather than that of an accelerator."""
        return True

    def wanted(self, request: LoadModel) -> tuple[object, ...]:
        """What a loaded model depends on: when it changes, the model is loaded again. Called in a thread."""
        return request.path, files_stamp(Path(request.path))

    def told(self, exc: Exception) -> Exception:
        """An error in words that help the person who asked for the picture."""
        return exc

    def is_fatal(self, exc: Exception) -> bool:  # noqa: ARG002
        """Whether nothing can be computed any more in this process after an error."""
        return False

    def release(self) -> None:
        """Give back what memory is not in use, in the thread that computes. What it raises is fatal."""
        gc.collect()

    def context(self) -> AbstractContextManager[object]:
        """What the thread that computes does all of its work in."""
        return nullcontext()

    def give_up(self) -> None:
        """End the process, which is a worker's: nothing more will come of it, and the server starts another."""
        os._exit(EXIT_CODE)

    async def start(self) -> None:
        """Start the thread that computes."""
        self._watchdog = asyncio.create_task(self._watch())
        self._thread = threading.Thread(target=self._run, name="stepping", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after its current step; jobs that still run fail."""
        self._stopping = True
        self._commands.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        if self._watchdog is not None:
            self._watchdog.cancel()

    async def load_model(self, request: LoadModel) -> AsyncIterator[LoadProgress | Loaded]:
        """Load a model in place of the one before it, once the running batch has ended."""
        async with self._loading:
            wanted = await asyncio.to_thread(self.wanted, request)
            if wanted != self._held:
                yield LoadProgress("waiting for running pictures")
                while self._sampler is not None and self._sampler.active:  # noqa: ASYNC110  # a rare wait
                    await asyncio.sleep(0.01)
                yield LoadProgress(f"reading {request.name}", 0.1)
                await self._do(lambda: self._load(wanted, request))
            if (vae := request.vae_path) is not None:
                yield LoadProgress(f"reading {Path(vae).name}", 0.9)
                await self._do(lambda: self._load_vae(wanted, request, vae))
            yield Loaded(request.name)

    async def generate(self, job: ImageJob) -> AsyncIterator[Progress | Preview | Output]:
        """
        Let one job join the running batch and pass on what becomes of it; leaving early removes it.

        A model that was only let go of to free memory is loaded again.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[SampleEvent] = asyncio.Queue()

        def listener(event: SampleEvent) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        init = await asyncio.to_thread(_init_picture, job) if job.init_image is not None else None
        try:
            async with self._loading:
                await self._do(lambda: self._admit(job, init, listener))
            while not isinstance(event := await events.get(), Output):
                if isinstance(event, Exception):
                    raise event
                yield event
            yield event
        finally:
            self._commands.put(lambda: self._remove(job.id, listener))

    async def free_memory(self, request: FreeMemory) -> Freed:
        """
        Unload the model unless it is at work; the next job loads it again.

        A model in system memory is spared unless *system_ram* is asked for too.
        """
        unload = request.system_ram or not self.in_system_memory
        return Freed(await self._do(lambda: self._free(unload=unload)))

    async def _do(self, work: Callable[[], T]) -> T:
        """Run *work* in the thread, between two steps."""
        if self._stopping:
            raise _stopped()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = work()
            except BaseException as exc:  # noqa: BLE001  # it is raised where it is awaited
                loop.call_soon_threadsafe(_settle, future, None, self._failure(_ordinary(exc)))
            else:
                loop.call_soon_threadsafe(_settle, future, result, None)

        self._commands.put(run)
        return await future

    async def _watch(self) -> None:
        """End the process when the thread is stuck: whoever watches over it starts another."""
        while True:
            await asyncio.sleep(self.stuck_seconds / 100)
            if self._since is not None and time.monotonic() - self._since > self.stuck_seconds:
                log.critical("one step took more than %g s: giving up", self.stuck_seconds)
                self.give_up()

    def _run(self) -> None:
        """The thread: commands when there are any, steps while there are jobs. Nothing but a stop ends it."""
        with self.context():
            while True:
                busy = self._sampler is not None and self._sampler.active > 0
                try:
                    command = self._commands.get(block=not busy)
                except queue.Empty:
                    command = self._step
                if command is None:
                    break
                self._since = time.monotonic()
                try:
                    command()
                except BaseException as exc:  # noqa: BLE001  # a library's panic or exit too
                    self._begin_anew(exc)
                if self._is_full:
                    self._make_room()
                self._since = None
        self._fail_all(_stopped())

    def _step(self) -> None:
        for job_id, event in self._loaded().step():
            told = self._failure(event) if isinstance(event, Exception) else event
            if (listener := self._listeners.get(job_id)) is not None:
                listener(told)

    def _failure(self, exc: Exception) -> Exception:
        """The error as it is told, once what follows from it for this thread is noted."""
        try:
            error, is_fatal = self.told(exc), self.is_fatal(exc)
        except Exception:
            log.exception("an error could not be told")
            error, is_fatal = exc, False
        if is_fatal:
            log.critical("nothing can be computed any more: giving up", exc_info=exc)
            self.give_up()
        # Frames keep alive what was being computed in them, and the error will be around for a while.
        _clear_frames(exc)
        self._is_full = self._is_full or getattr(error, "error_id", None) == OUT_OF_MEMORY
        return error

    def _begin_anew(self, exc: BaseException) -> None:
        """After an error that is no single job's: fail them all and let go of the model, which the next job loads again."""
        log.error("the running pictures are given up", exc_info=exc)
        self._sampler = self._held = None
        self._fail_all(self._failure(_ordinary(exc)))
        self._is_full = True

    def _make_room(self) -> None:
        """Give memory back, now that the error that called for it is no longer being handled."""
        self._is_full = False
        try:
            self.release()
        except Exception:
            log.critical("memory cannot be given back: giving up", exc_info=True)
            self.give_up()

    def _fail_all(self, error: Exception) -> None:
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener(error)

    def _loaded(self) -> Sampler:
        if self._sampler is None:
            raise BackendError("No model is loaded.", "model_not_loaded")
        return self._sampler

    def _admit(self, job: ImageJob, init: InitPicture | None, listener: Listener) -> None:
        freed = self._request if self._sampler is None else None
        if freed is not None and freed.path == job.model_path:
            self._load(self.wanted(freed), freed)
        if job.model_path is None or Path(job.model_path) != self._loaded().path:
            raise BackendError("The model of this job is not the loaded one.", "model_not_loaded")
        self._loaded().admit(job, init)
        self._listeners[job.id] = listener

    def _remove(self, job_id: str, listener: Listener) -> None:
        """Forget the job of that listener, and no other that has the same id."""
        if self._listeners.get(job_id) is not listener:
            return
        del self._listeners[job_id]
        if self._sampler is not None:
            self._sampler.remove(job_id)

    def _load(self, wanted: tuple[object, ...], request: LoadModel) -> None:
        if self._sampler is not None and wanted == self._held:
            return
        self._unload()
        self._request = request  # from now on: when it cannot be loaded, the next job tries again
        self._sampler = self.make_sampler(request)
        self._held = wanted

    def _load_vae(self, wanted: tuple[object, ...], request: LoadModel, vae: str) -> None:
        self._load(wanted, request)  # its memory may have been freed meanwhile
        self._loaded().vae(vae)

    def _unload(self) -> None:
        self._sampler = self._held = None
        self.release()

    def _free(self, *, unload: bool) -> bool:
        if self._sampler is not None:
            self._sampler.forget()
            if unload and not self._sampler.active:
                self._unload()
        self.release()
        return True


def files_stamp(path: Path) -> tuple[tuple[int, int], ...]:
    """Changes when a model's files do: their times of change and sizes. Empty when it is not there."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return tuple(stamp for file in files if (stamp := _stamp(file)) is not None)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:  # gone meanwhile, or not ours to read: whoever loads it will say so
        return None
    return (status.st_mtime_ns, status.st_size) if stat.S_ISREG(status.st_mode) else None


def _stopped() -> BackendError:
    return BackendError("The backend is stopping.", "backend_stopping")


def _ordinary(exc: BaseException) -> Exception:
    """What may be raised in a task: a panic or an exit of a library would end the event loop."""
    return exc if isinstance(exc, Exception) else RuntimeError(f"{type(exc).__name__}: {exc}")


def _init_picture(job: ImageJob) -> InitPicture | None:
    """What a job starts from, its files decoded where no other job waits for it."""
    from swarmkernel_t2i_api.init_picture import InitPicture  # noqa: PLC0415  # the server decodes nothing

    return InitPicture.of(job)


def _clear_frames(exc: Exception) -> None:
    """Let go of the local variables of all frames that an error, and those before it, went through."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [exc]
    while waiting:
        found = waiting.pop()
        if found is not None and all(found is not other for other in seen):
            seen.append(found)
            traceback.clear_frames(found.__traceback__)
            waiting += [found.__cause__, found.__context__]


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
