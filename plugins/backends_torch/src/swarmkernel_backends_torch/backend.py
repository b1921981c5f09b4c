"""The backend that runs in the worker process."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch

from swarmkernel_backend_api import BackendError, Freed, FreeMemory
from swarmkernel_backends_torch.devices import pick_device, pick_dtype, release_memory
from swarmkernel_backends_torch.libraries import silence
from swarmkernel_backends_torch.loading import load_parts, stamp
from swarmkernel_backends_torch.sampler import Event, Sampler
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_diffusion import DiffusionError
from swarmkernel_models_api import Loaded, LoadModel, LoadProgress
from swarmkernel_t2i_api import ImageJob, Output, Preview, Progress

log = logging.getLogger(__name__)
T = TypeVar("T")
Listener = Callable[[Event], object]


@attrs.define(eq=False)
class TorchBackend:
    """
    Stable Diffusion on one device.

    All torch work happens in one thread, which steps the running batch and takes commands between two steps; the
    asyncio side only waits.
    """

    settings: TorchSettings
    _device: torch.device = attrs.field(default=torch.device("cpu"), init=False)
    _dtype: torch.dtype = attrs.field(default=torch.float32, init=False)
    _sampler: Sampler | None = attrs.field(default=None, init=False)
    _held: tuple[object, ...] | None = attrs.field(default=None, init=False)
    """What the sampler was made from: path, prediction type and the state of the files."""
    _request: LoadModel | None = attrs.field(default=None, init=False)
    _commands: queue.SimpleQueue[Callable[[], None] | None] = attrs.field(
        factory=queue.SimpleQueue, init=False
    )
    _listeners: dict[str, Listener] = attrs.field(factory=dict, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)
    _loading: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    async def start(self) -> None:
        """Find the device and start the thread that computes."""
        silence()
        self._device = await asyncio.to_thread(pick_device, self.settings.device)
        self._dtype = pick_dtype(self.settings.dtype, self._device)
        log.info("computing on %s in %s", self._device, str(self._dtype).removeprefix("torch."))
        self._thread = threading.Thread(target=self._run, name="torch", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after its current step; jobs that still run fail."""
        self._commands.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def load_model(self, request: LoadModel) -> AsyncIterator[LoadProgress | Loaded]:
        """Load a model in place of the one before it, once the running batch has ended."""
        async with self._loading:
            wanted = await asyncio.to_thread(_wanted, request)
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

        A model that was only let go of to free memory is loaded again.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()

        def listener(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        try:
            async with self._loading:
                freed = self._freed
                if freed is not None and freed.path == job.model_path:
                    wanted = await asyncio.to_thread(_wanted, freed)
                    await self._do(lambda: self._load(wanted, freed))
                await self._do(lambda: self._admit(job, listener))
            while not isinstance(event := await events.get(), Output):
                if isinstance(event, Exception):
                    raise _told(event)
                yield event
            yield event
        finally:
            self._commands.put(lambda: self._remove(job.id, listener))

    async def free_memory(self, request: FreeMemory) -> Freed:
        """
        Unload the model unless it is at work; the next job loads it again.

        A model in system memory is spared unless *system_ram* is asked for too.
        """
        unload = request.system_ram or self._device.type != "cpu"
        return Freed(await self._do(lambda: self._free(unload=unload)))

    @property
    def _freed(self) -> LoadModel | None:
        """The model that would be loaded had its memory not been asked for."""
        return self._request if self._sampler is None else None

    async def _do(self, work: Callable[[], T]) -> T:
        """Run *work* in the thread, between two steps."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = work()
            except Exception as exc:  # noqa: BLE001  # it is raised where it is awaited
                loop.call_soon_threadsafe(_settle, future, None, _told(exc))
                if isinstance(exc, torch.OutOfMemoryError):
                    release_memory(self._device)
            else:
                loop.call_soon_threadsafe(_settle, future, result, None)

        self._commands.put(run)
        return await future

    def _run(self) -> None:
        """The thread: commands when there are any, steps while there are jobs."""
        with torch.inference_mode():
            while True:
                busy = self._sampler is not None and self._sampler.active > 0
                try:
                    command = self._commands.get(block=not busy)
                except queue.Empty:
                    self._step()
                    continue
                if command is None:
                    break
                command()
        self._fail_all(BackendError("The backend is stopping.", "backend_stopping"))

    def _step(self) -> None:
        try:
            events = self._loaded().step()
        except Exception as exc:
            log.exception("a step failed")
            self._fail_all(exc)
            return
        for job_id, event in events:
            if (listener := self._listeners.get(job_id)) is not None:
                listener(event)
        if any(isinstance(event, torch.OutOfMemoryError) for _, event in events):
            release_memory(self._device)

    def _fail_all(self, error: Exception) -> None:
        for job_id, listener in tuple(self._listeners.items()):
            self._remove(job_id, listener)
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
        self._unload()
        self._request = None
        path = Path(request.path)
        parts = load_parts(path, self._dtype, prediction_of(request))
        self._sampler = Sampler(path, parts, self._device, self._dtype, self.settings)
        self._held, self._request = wanted, request

    def _unload(self) -> None:
        self._sampler = self._held = None
        release_memory(self._device)

    def _free(self, *, unload: bool) -> bool:
        if self._sampler is not None:
            self._sampler.forget()
            if unload and not self._sampler.active:
                self._unload()
        release_memory(self._device)
        return True


def _wanted(request: LoadModel) -> tuple[object, ...]:
    return request.path, prediction_of(request), stamp(Path(request.path))


def prediction_of(request: LoadModel) -> str | None:
    """What diffusers calls the prediction type that the model's metadata or class tell of; None if they do not."""
    stated = (request.prediction_type or "").lower().replace("-", "_")
    if stated in {"v", "v_prediction", "v_zsnr"}:
        return "v_prediction"
    if not stated and request.class_id == "stable-diffusion-v2-768-v":
        return "v_prediction"
    return "epsilon" if stated in {"epsilon", "eps"} else None


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _told(exc: Exception) -> Exception:
    """An error in words that help the person who asked for the picture."""
    if isinstance(exc, DiffusionError):
        return BackendError(str(exc), "invalid_parameter")
    if isinstance(exc, torch.OutOfMemoryError):
        return BackendError("The device ran out of memory; try a smaller picture or batch.", "gpu_oom")
    return exc
