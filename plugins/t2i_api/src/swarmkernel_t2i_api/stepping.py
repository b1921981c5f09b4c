"""A base for backends whose jobs share one running batch, which is stepped in a thread of its own."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs

from swarmkernel_backend_api import BackendError, Freed, FreeMemory
from swarmkernel_models_api import Loaded, LoadModel, LoadProgress
from swarmkernel_t2i_api.sampling import SampleEvent
from swarmkernel_t2i_api.types import ImageJob, Output, Preview, Progress

log = logging.getLogger(__name__)
T = TypeVar("T")
Listener = Callable[[SampleEvent], object]
#: The ``error_id`` of a device that ran out of memory; after such an error the backend's ``release`` is called.
OUT_OF_MEMORY = "gpu_oom"


class Sampler(Protocol):
    """A loaded model at work on many jobs. All of it is called in the backend's thread, `active` from anywhere."""

    @property
    def path(self) -> Path:
        """What was loaded."""

    @property
    def active(self) -> int:
        """How many jobs are running."""

    def admit(self, job: ImageJob) -> None:
        """Let a job join the batch at the next step, or raise what is wrong with it."""

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
    _present: int = attrs.field(default=0, init=False)
    """Jobs that were let in and have not left."""
    _stopping: bool = attrs.field(default=False, init=False)

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

    def release(self) -> None:
        """Give back what memory is not in use, in the thread that computes."""
        gc.collect()

    def context(self) -> AbstractContextManager[object]:
        """What the thread that computes does all of its work in."""
        return nullcontext()

    async def start(self) -> None:
        """Start the thread that computes."""
        self._thread = threading.Thread(target=self._run, name="stepping", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after its current step; jobs that still run fail."""
        self._stopping = True
        self._commands.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

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
                await self._do(lambda: self._loaded().vae(vae))
            yield Loaded(request.name)

    async def generate(self, job: ImageJob) -> AsyncIterator[Progress | Preview | Output]:
        """
        Let one job join the running batch and pass on what becomes of it; leaving early removes it.

        A model that was only let go of to free memory is loaded again. Who leaves last waits for the step that is under
        way, so that a step that never ends shows as an interrupt that is not obeyed.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[SampleEvent] = asyncio.Queue()

        def listener(event: SampleEvent) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        async with self._loading:
            freed = self._freed
            if freed is not None and freed.path == job.model_path:
                wanted = await asyncio.to_thread(self.wanted, freed)
                await self._do(lambda: self._load(wanted, freed))
            self._present += 1
            try:
                await self._do(lambda: self._admit(job, listener))
            except BaseException:
                await self._leave(job, listener)
                raise
        try:
            while not isinstance(event := await events.get(), Output):
                if isinstance(event, Exception):
                    raise self.told(event)
                yield event
            yield event
        finally:
            await self._leave(job, listener)

    async def free_memory(self, request: FreeMemory) -> Freed:
        """
        Unload the model unless it is at work; the next job loads it again.

        A model in system memory is spared unless *system_ram* is asked for too.
        """
        unload = request.system_ram or not self.in_system_memory
        async with self._loading:
            return Freed(await self._do(lambda: self._free(unload=unload)))

    @property
    def _freed(self) -> LoadModel | None:
        """The model that would be loaded had its memory not been asked for."""
        return self._request if self._sampler is None else None

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
                error = self.told(_ordinary(exc))
                loop.call_soon_threadsafe(_settle, future, None, error)
                if self._out_of_memory(error):
                    self.release()
            else:
                loop.call_soon_threadsafe(_settle, future, result, None)

        self._commands.put(run)
        return await future

    async def _leave(self, job: ImageJob, listener: Listener) -> None:
        """Have the thread forget a job; with no other at work, return when it has."""
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()

        def remove() -> None:
            try:
                self._remove(job.id, listener)
            finally:
                loop.call_soon_threadsafe(_settle, gone, None, None)

        self._present -= 1
        if not self._stopping:
            self._commands.put(remove)
            if not self._present:
                await gone

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
                try:
                    command()
                except BaseException as exc:  # noqa: BLE001  # a library's panic or exit too
                    self._begin_anew(exc)
        self._fail_all(_stopped())

    def _step(self) -> None:
        events = self._loaded().step()
        for job_id, event in events:
            if (listener := self._listeners.get(job_id)) is not None:
                listener(event)
        if any(isinstance(event, Exception) and self._out_of_memory(event) for _, event in events):
            self.release()

    def _begin_anew(self, exc: BaseException) -> None:
        """After an error that is no single job's: fail them all and let go of the model, which the next job loads again."""
        log.error("the running pictures are given up", exc_info=exc)
        self._fail_all(_ordinary(exc))
        self._sampler = self._held = None
        try:
            self.release()
        except Exception:
            log.exception("memory was not given back")

    def _out_of_memory(self, exc: Exception) -> bool:
        return getattr(self.told(exc), "error_id", None) == OUT_OF_MEMORY

    def _fail_all(self, error: Exception) -> None:
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener(error)

    def _loaded(self) -> Sampler:
        if self._sampler is None:
            raise BackendError("No model is loaded.", "model_not_loaded")
        return self._sampler

    def _admit(self, job: ImageJob, listener: Listener) -> None:
        if job.model_path is None or Path(job.model_path) != self._loaded().path:
            raise BackendError("The model of this job is not the loaded one.", "model_not_loaded")
        self._loaded().admit(job)
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
        self._request = None
        self._sampler = self.make_sampler(request)
        self._held, self._request = wanted, request

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
    found = [file.stat() for file in files if file.is_file()]
    return tuple((status.st_mtime_ns, status.st_size) for status in found)


def _stopped() -> BackendError:
    return BackendError("The backend is stopping.", "backend_stopping")


def _ordinary(exc: BaseException) -> Exception:
    """What may be raised in a task: a panic or an exit of a library would end the event loop."""
    return exc if isinstance(exc, Exception) else RuntimeError(f"{type(exc).__name__}: {exc}")


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
