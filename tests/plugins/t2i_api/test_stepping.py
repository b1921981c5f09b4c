"""The base of backends whose jobs share a running batch, with an engine that only counts."""

import asyncio
import threading
import weakref
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from PIL import Image

from swarmkernel_backend_api import BackendError, FreeMemory
from swarmkernel_models_api import Loaded, LoadModel
from swarmkernel_t2i_api import BatchSampler, ImageJob, Output, Preview, Progress, SteppingBackend

PATH = "/models/m"


@attrs.define
class Row:
    """A running picture; also what is told of it."""

    id: str
    steps: int
    step: int = 0
    latents: str = "latents"
    error: Exception | None = None


@attrs.frozen
class Report:
    """What one step did."""

    advanced: list[Row]
    finished: list[Row]
    failed: list[Row]


@attrs.define(eq=False)
class Counter:
    """Moves every row by one at each step; a row of 13 steps runs out of memory."""

    rows: dict[str, Row] = attrs.field(factory=dict)
    most: int = 0

    @property
    def active(self):
        return len(self.rows)

    def admit(self, row):
        self.rows[row.id] = row

    def remove(self, row_id):
        return self.rows.pop(row_id, None) is not None

    def preview(self, row_id):
        return "latents"

    def step(self):
        self.most = max(self.most, self.active)
        for row in self.rows.values():
            row.step += 1
            row.error = MemoryError() if row.steps == 13 else None
        ended = [row for row in self.rows.values() if row.error or row.step == row.steps]
        going = [row for row in self.rows.values() if row not in ended]
        for row in ended:
            del self.rows[row.id]
        return Report(going, [row for row in ended if not row.error], [row for row in ended if row.error])


@attrs.define(eq=False)
class Counting(BatchSampler):
    """A loaded model."""

    def __attrs_post_init__(self):
        self.engine = Counter()

    def vae(self, path):
        return path or "own"

    def sample(self, job, vae, init):
        return Row(job.id, job.steps)

    def decode(self, job, vae, latents):
        if job.prompt == "undecodable":
            raise ValueError(job.prompt)
        return Image.new("RGB", (job.width, job.height))

    def draw(self, latents):
        return Image.new("RGB", (1, 1))

    def forget(self):
        pass


@attrs.define(eq=False)
class CountingBackend(SteppingBackend):
    """Remembers where and what it was asked."""

    loads: list = attrs.field(factory=list)
    released: int = 0
    threads: set = attrs.field(factory=set)

    def make_sampler(self, request):
        self.loads.append(request.name)
        self.threads.add(threading.current_thread().name)
        return Counting(Path(request.path))

    def told(self, exc):
        return BackendError("too large", "gpu_oom") if isinstance(exc, MemoryError) else exc

    def release(self):
        self.released += 1

    @contextmanager
    def context(self):
        self.threads.add("entered")
        yield
        self.threads.add("left")


@pytest.fixture
async def backend():
    made = CountingBackend()
    await made.start()
    await load(made)
    yield made
    await made.stop()


async def load(backend, path=PATH):
    return [reply async for reply in backend.load_model(LoadModel(path, path))]


async def run(backend, name="a", prompt="", **job):
    asked = {"width": 2, "height": 2, "steps": 3, "model_path": PATH, "previews": False} | job
    return [event async for event in backend.generate(ImageJob(name, prompt, **asked))]


async def test_a_job(backend):
    """A job's events are its steps and its picture, with previews where they are wanted."""
    *steps, output = await run(backend)
    assert [Progress(1, 3), Progress(2, 3), Progress(3, 3)] == steps
    assert isinstance(output, Output)
    assert any(isinstance(event, Preview) for event in await run(backend, previews=True))


async def test_one_thread(backend):
    """Models are loaded in the thread that steps, which works within the backend's own context from start to end."""
    await run(backend)
    assert {"stepping", "entered"} == backend.threads
    await backend.stop()
    assert {"stepping", "entered", "left"} == backend.threads


async def test_jobs_share_steps(backend):
    """Jobs that come together run together."""
    await asyncio.gather(*(run(backend, str(n), steps=2000) for n in range(3)))
    assert 3 == backend._sampler.engine.most


async def test_errors(backend):
    """A job that cannot be decoded or runs out of memory fails alone; the latter has memory given back."""
    good = asyncio.create_task(run(backend, "good", steps=500))
    with pytest.raises(ValueError, match="undecodable"):
        await run(backend, "b", "undecodable")
    before = backend.released
    with pytest.raises(BackendError, match="too large"):
        await run(backend, "c", steps=13)
    assert isinstance((await good)[-1], Output)
    async with asyncio.timeout(10):
        while before == backend.released:
            await asyncio.sleep(0.001)
    with pytest.raises(BackendError, match="not the loaded one"):
        await run(backend, model_path="/models/other")


async def test_memory(backend):
    """A model in system memory is spared unless that is asked for; then the next job loads it again."""
    await backend.free_memory(FreeMemory())
    await run(backend)
    assert [PATH] == backend.loads
    await backend.free_memory(FreeMemory(system_ram=True))
    await run(backend)
    assert [PATH, PATH] == backend.loads


async def test_loading(backend):
    """A model that is there stays; another waits until the running jobs have ended."""
    assert [Loaded(PATH)] == await load(backend)
    running = asyncio.create_task(run(backend, steps=20_000))
    await asyncio.sleep(0.01)
    other = asyncio.create_task(load(backend, "/models/other"))
    await asyncio.sleep(0.01)
    assert [PATH] == backend.loads
    await running
    await other
    assert [PATH, "/models/other"] == backend.loads


async def test_leaving_and_stopping():
    """A cancelled job leaves the batch; a backend that stops tells those that still run."""
    backend = CountingBackend()
    await backend.start()
    await load(backend)
    left = asyncio.create_task(run(backend, "left", steps=10**9))
    stays = asyncio.create_task(run(backend, "stays", steps=10**9))
    await asyncio.sleep(0.02)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    while "left" in backend._sampler.engine.rows:
        await asyncio.sleep(0.001)
    await backend.stop()
    with pytest.raises(BackendError, match="stopping"):
        await stays


class Panic(BaseException):
    """What a compiled library may raise."""


@pytest.mark.parametrize("raised", [RuntimeError("broken"), Panic("broken")])
@pytest.mark.parametrize("method", ["remove", "step", "admit"])
async def test_the_thread_lives_on(backend, method, raised, monkeypatch):
    """Whatever is raised in the thread fails jobs at once, and the next one begins with a sound model."""

    def fails(*_):
        raise raised

    with monkeypatch.context() as broken:
        early = asyncio.create_task(run(backend, "early", steps=10**9))
        await asyncio.sleep(0.02)
        broken.setattr(Counting, method, fails)
        late = asyncio.create_task(run(backend, "late", steps=10**9))
        await asyncio.sleep(0.02)
        early.cancel()
        await asyncio.wait([early, late], timeout=10)
    assert (True, "broken" in str(late.exception())) == (early.done(), True)
    assert early.cancelled() or "broken" in str(early.exception())
    assert isinstance((await asyncio.wait_for(run(backend), 10))[-1], Output)


async def test_a_step_that_never_ends(monkeypatch):
    """A thread that is stuck is given up, and nothing is while it works or waits."""
    go_on, gave_up = threading.Event(), asyncio.Event()
    monkeypatch.setattr(CountingBackend, "stuck_seconds", 1.0)
    monkeypatch.setattr(CountingBackend, "give_up", lambda _: gave_up.set())
    backend = CountingBackend()
    await backend.start()
    await load(backend)
    job = asyncio.create_task(run(backend, steps=10**9))
    await asyncio.sleep(1.2)
    assert not gave_up.is_set()
    monkeypatch.setattr(Counting, "step", lambda _: [] if go_on.wait() else None)
    await asyncio.wait_for(gave_up.wait(), 30)
    go_on.set()
    job.cancel()
    await backend.stop()


async def test_a_load_that_failed(backend, monkeypatch):
    """A model whose memory was freed and that could not be loaded again is tried once more by the next job."""

    def fails(*_):
        raise MemoryError

    await backend.free_memory(FreeMemory(system_ram=True))
    with monkeypatch.context() as broken:
        broken.setattr(CountingBackend, "make_sampler", fails)
        with pytest.raises(BackendError, match="too large"):
            await run(backend)
    assert isinstance((await run(backend))[-1], Output)


class Weights:
    """Something that takes memory."""


@pytest.mark.parametrize("where", ["step", "load"])
async def test_memory_of_what_failed(backend, where, monkeypatch):
    """When memory is given back after running out of it, nothing holds what had been computed until then."""
    held: list[weakref.ref[Weights]] = []
    alive: list[bool] = []

    def fails(*_):
        weights = Weights()
        held.append(weakref.ref(weights))
        raise MemoryError

    broken = (Counter, "step") if where == "step" else (CountingBackend, "make_sampler")
    monkeypatch.setattr(*broken, fails)
    monkeypatch.setattr(CountingBackend, "release", lambda _: alive.extend(ref() is not None for ref in held))
    with pytest.raises(BackendError, match="too large"):
        await (run(backend) if where == "step" else load(backend, "/models/other"))
    await backend.free_memory(FreeMemory())
    assert {False} == set(alive)


async def test_errors_that_cannot_be_told(backend, monkeypatch):
    """An error that is its own cause, or that a backend fails to put into words, still reaches the job."""

    def fails(*_):
        error = ValueError("round")
        raise error from error

    monkeypatch.setattr(Counting, "admit", fails)
    monkeypatch.setattr(CountingBackend, "told", fails)
    with pytest.raises(ValueError, match="round"):
        await asyncio.wait_for(run(backend), 10)


@pytest.mark.parametrize("broken", ["is_fatal", "release"])
async def test_nothing_works_any_more(backend, broken, monkeypatch):
    """An error after which nothing can be computed ends the process, and so does memory that cannot be given back."""

    def fails(*_):
        raise RuntimeError(broken)

    gave_up: list[bool] = []
    monkeypatch.setattr(CountingBackend, "give_up", lambda _: gave_up.append(True))
    with monkeypatch.context() as patched:
        if broken == "is_fatal":
            patched.setattr(CountingBackend, "is_fatal", lambda *_: True)
        else:
            patched.setattr(CountingBackend, "release", fails)
        patched.setattr(Counting, "step", fails)
        with pytest.raises(RuntimeError, match=broken):
            await run(backend)
        while not gave_up:
            await asyncio.sleep(0.001)


async def test_memory_and_a_job_at_once(backend):
    """A job that comes while memory is being freed has its model loaded again."""
    for n in range(20):
        await load(backend)
        _, events = await asyncio.gather(
            backend.free_memory(FreeMemory(system_ram=True)), run(backend, str(n))
        )
        assert isinstance(events[-1], Output)


async def test_after_the_stop():
    """Who asks a backend that has stopped is told so."""
    backend = CountingBackend()
    await backend.start()
    await backend.stop()
    with pytest.raises(BackendError, match="stopping"):
        await asyncio.wait_for(run(backend), 10)
