"""The backend that runs in the worker process."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch

from swarmkernel_backend_api import BackendError, Freed, FreeMemory
from swarmkernel_backends_torch.loading import load_parts
from swarmkernel_backends_torch.sampler import Sampler
from swarmkernel_backends_torch.settings import TorchSettings
from swarmkernel_diffusion import DiffusionError
from swarmkernel_models_api import Loaded, LoadModel, LoadProgress
from swarmkernel_t2i_api import ImageJob, Output, Preview, Progress

log = logging.getLogger(__name__)
T = TypeVar("T")
Event = Progress | Preview | Output | Exception


def pick_device(wanted: str) -> torch.device:
    """The device of that name, or for ``auto`` the first accelerator; BackendError if it is not there."""
    if wanted in {"", "auto"}:
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as exc:
        raise BackendError(f"The device {wanted!r} is not available here: {exc}", "no_device") from exc
    return device


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; for ``auto`` float16 on an accelerator and float32 on a CPU."""
    if wanted == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[wanted]


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
    _commands: queue.SimpleQueue[Callable[[], None] | None] = attrs.field(
        factory=queue.SimpleQueue, init=False
    )
    _listeners: dict[str, Callable[[Event], object]] = attrs.field(factory=dict, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)
    _loading: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    async def start(self) -> None:
        """Find the device and start the thread that computes."""
        self._device = await asyncio.to_thread(pick_device, self.settings.device)
        self._dtype = pick_dtype(self.settings.dtype, self._device)
        log.info("computing on %s in %s", self._device, str(self._dtype).removeprefix("torch."))
        self._thread = threading.Thread(target=self._run, name="torch", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after its current step."""
        self._commands.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def load_model(self, request: LoadModel) -> AsyncIterator[LoadProgress | Loaded]:
        """Load a model in place of the one before it, once the running batch has ended."""
        async with self._loading:
            yield LoadProgress("waiting for running pictures")
            while self._sampler is not None and self._sampler.active:  # noqa: ASYNC110  # a rare wait
                await asyncio.sleep(0.01)
            yield LoadProgress(f"reading {request.name}", 0.1)
            await self._do(lambda: self._load(request))
            yield Loaded(request.name)

    async def generate(self, job: ImageJob) -> AsyncIterator[Progress | Preview | Output]:
        """Let one job join the running batch and pass on what becomes of it; leaving early removes it."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        try:
            async with self._loading:
                await self._do(
                    lambda: self._admit(
                        job, lambda event: loop.call_soon_threadsafe(events.put_nowait, event)
                    )
                )
            while not isinstance(event := await events.get(), Output):
                if isinstance(event, Exception):
                    raise _told(event)
                yield event
            yield event
        finally:
            self._commands.put(lambda: self._remove(job.id))

    async def free_memory(self, request: FreeMemory) -> Freed:
        """Give back what is only cached; with *system_ram*, unload the model unless it is at work."""
        return Freed(await self._do(lambda: self._free(unload=request.system_ram)))

    async def _do(self, work: Callable[[], T]) -> T:
        """Run *work* in the thread, between two steps."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = work()
            except Exception as exc:  # noqa: BLE001  # it is raised where it is awaited
                loop.call_soon_threadsafe(_settle, future, None, _told(exc))
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
                    return
                command()

    def _step(self) -> None:
        assert self._sampler is not None  # noqa: S101  # only stepped while active
        for job_id, event in self._sampler.step():
            if (listener := self._listeners.get(job_id)) is not None:
                listener(event)

    def _admit(self, job: ImageJob, listener: Callable[[Event], object]) -> None:
        if self._sampler is None or str(self._sampler.path) != job.model_path:
            raise BackendError("The model of this job is not the loaded one.", "model_not_loaded")
        self._sampler.admit(job)
        self._listeners[job.id] = listener

    def _remove(self, job_id: str) -> None:
        self._listeners.pop(job_id, None)
        if self._sampler is not None:
            self._sampler.remove(job_id)

    def _load(self, request: LoadModel) -> None:
        if self._sampler is not None and str(self._sampler.path) == request.path:
            return
        self._sampler = None
        self._clear()
        parts = load_parts(Path(request.path), self._dtype, _prediction(request))
        self._sampler = Sampler(Path(request.path), parts, self._device, self._dtype, self.settings)

    def _free(self, *, unload: bool) -> bool:
        if self._sampler is not None:
            self._sampler.text.forget()
            if unload and not self._sampler.active:
                self._sampler = None
        self._clear()
        return True

    def _clear(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._device.type == "mps":
            torch.mps.empty_cache()


def _prediction(request: LoadModel) -> str | None:
    """What diffusers calls the prediction type that the model's metadata or class tell of."""
    if request.prediction_type in {"v", "v_prediction", "v-prediction"}:
        return "v_prediction"
    if request.prediction_type is None and "-v" in (request.class_id or "").removeprefix(
        "stable-diffusion-v"
    ):
        return "v_prediction"
    return None


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
        return BackendError("The device ran out of memory; try a smaller picture or batch.", "out_of_memory")
    return exc
