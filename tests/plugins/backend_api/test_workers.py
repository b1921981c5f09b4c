"""Worker processes: what they do, and every way in which they end."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import attrs
import pytest

from swarmkernel_backend_api import (
    FREE_MEMORY,
    BackendError,
    Backends,
    BackendSlot,
    FreeMemory,
    Status,
    WorkerLostError,
    frames,
)
from swarmkernel_backend_api.testing import SYNTHETIC, WORK, Task, Tick, fleet, until
from swarmkernel_backend_api.worker_host import WorkerHost


async def running(backends: Backends, **settings: object) -> BackendSlot:
    slot = await backends.add("synthetic", settings)
    await until(backends, lambda: slot.status is Status.RUNNING)
    return slot


def pid_of(slot: BackendSlot) -> int:
    assert isinstance(slot.host, WorkerHost)
    assert slot.host.pid is not None
    return slot.host.pid


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def collect(slot: BackendSlot, task: Task) -> list[object]:
    async with aclosing(slot.invoke(WORK, task)) as replies:
        return [reply async for reply in replies]


async def test_work_streams_its_replies() -> None:
    """A call yields each reply of the backend in order, and bytes come back as they were sent."""
    payload = bytes(range(256)) * 4096
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        *ticks, result = await collect(slot, Task(steps=3, payload=payload))
        assert [Tick(0), Tick(1), Tick(2)] == ticks
        assert payload == result.payload
        assert pid_of(slot) == result.pid
        assert os.getpid() != result.pid


async def test_calls_run_side_by_side() -> None:
    """Ten calls of one worker share its time instead of queueing."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends, slots=10)
        begun = time.monotonic()
        results = await asyncio.gather(*(collect(slot, Task(steps=5, seconds=0.05)) for _ in range(10)))
        assert [6] * 10 == [len(r) for r in results]
        assert time.monotonic() - begun < 1.5


async def test_one_answer_can_be_asked_for() -> None:
    """A capability that does not stream gives its one reply."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        assert True is (await slot.ask(FREE_MEMORY, FreeMemory(system_ram=True))).freed


async def test_what_a_backend_cannot_do_is_refused() -> None:
    """A method that the backend lacks is an error with an id, and the worker lives on."""
    missing = attrs.evolve(WORK, name="dance")
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        with pytest.raises(BackendError) as caught:
            await slot.ask(missing, Task())
        assert "not_supported" == caught.value.error_id
        assert Status.RUNNING is slot.status


@pytest.mark.parametrize(
    ("task", "error_id", "text"),
    [
        (Task("raise"), "backend_failed", "RuntimeError: as asked"),
        (Task("raise", payload=b"No such lamp."), "as_asked", "No such lamp."),
        (Task("oom_cuda"), "gpu_oom", "OutOfMemoryError: CUDA out of memory"),
        (Task("wrong_reply"), "bad_message", "work gave a Freed, which is no reply of it."),
        (Task("huge"), "bad_message", "larger than the limit"),
    ],
)
async def test_an_error_of_a_call_costs_that_call_only(task: Task, error_id: str, text: str) -> None:
    """What a backend raises, or cannot send, reaches its caller with text and id; the same process serves the next call."""
    async with fleet([SYNTHETIC], max_frame_mib=4) as backends:
        slot = await running(backends)
        pid = pid_of(slot)
        with pytest.raises(BackendError) as caught:
            await collect(slot, task)
        assert error_id == caught.value.error_id
        assert text in caught.value.text
        assert not isinstance(caught.value, WorkerLostError)
        assert pid == (await collect(slot, Task()))[-1].pid


async def test_a_request_that_is_too_large_is_refused() -> None:
    """A request over the frame limit is an error of its call, and the worker lives on."""
    async with fleet([SYNTHETIC], max_frame_mib=1) as backends:
        slot = await running(backends)
        with pytest.raises(BackendError, match="larger than the limit"):
            await collect(slot, Task(payload=bytes(2 << 20)))
        assert 1 == len(await collect(slot, Task()))


@pytest.mark.parametrize(
    ("verb", "how"),
    [("segv", "was ended by SIGSEGV"), ("exit", "ended with exit code 3"), ("garbage", "sent garbage")],
)
async def test_a_worker_that_dies_is_replaced(verb: str, how: str) -> None:
    """A crash is told to the running call with its cause; the backend goes over errored back to running in a new process."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        old, seen = pid_of(slot), []
        with pytest.raises(WorkerLostError, match=how) as caught:
            await collect(slot, Task(verb))
        assert caught.value.may_retry
        while slot.status is not Status.RUNNING:
            seen.append(slot.status)
            await backends.changed(5)
        assert [Status.ERRORED, Status.LOADING] == list(dict.fromkeys(seen))
        assert is_gone(old)
        assert pid_of(slot) == (await collect(slot, Task()))[-1].pid


async def test_sigkill_is_seen_within_a_second() -> None:
    """Killing a worker in the middle of its work fails all its calls within a second, and it comes back."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends, slots=2)
        calls = [asyncio.create_task(collect(slot, Task(steps=1000, seconds=0.01))) for _ in range(2)]
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        os.kill(pid_of(slot), signal.SIGKILL)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - begun < 1
        assert [WorkerLostError] * 2 == [type(r) for r in results]
        assert "worker_lost" == results[0].error_id
        await until(backends, lambda: slot.status is Status.RUNNING)


async def test_many_kills_leave_no_stuck_slot() -> None:
    """A worker killed ten times at random moments of its life is running again after each."""
    async with fleet([SYNTHETIC], restart_attempts=100, restart_pause_seconds=0.0) as backends:
        slot = await running(backends)
        for round_ in range(10):
            call = asyncio.create_task(collect(slot, Task(steps=100, seconds=0.001)))
            await asyncio.sleep(0.013 * round_)
            if isinstance(slot.host, WorkerHost):
                os.kill(pid_of(slot), signal.SIGKILL)
            await asyncio.gather(call, return_exceptions=True)
            await until(backends, lambda: slot.status is Status.RUNNING)
        assert 0 == slot.usages
        assert not slot.touched


async def test_the_restart_budget_ends() -> None:
    """A worker that keeps dying is restarted so often as the budget says, with growing pauses, and then stays errored."""
    async with fleet([SYNTHETIC], restart_attempts=2, restart_pause_seconds=0.1) as backends:
        slot = await running(backends)
        downtimes = []
        for _ in range(2):
            os.kill(pid_of(slot), signal.SIGKILL)
            await until(backends, lambda: slot.status is Status.ERRORED)
            begun = time.monotonic()
            await until(backends, lambda: slot.status is Status.LOADING)
            downtimes.append(time.monotonic() - begun)
            await until(backends, lambda: slot.status is Status.RUNNING)
        os.kill(pid_of(slot), signal.SIGKILL)
        await until(backends, lambda: slot.status is Status.ERRORED)
        assert not await became(backends, slot, Status.LOADING, 1.0)
        assert downtimes[0] >= 0.1
        assert downtimes[1] >= 0.4
        assert 1 == await backends.restart([slot])
        await until(backends, lambda: slot.status is Status.RUNNING)


async def became(backends: Backends, slot: BackendSlot, status: Status, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await until(backends, lambda: slot.status is status, seconds)
        return True
    return False


async def test_an_interrupt_is_obeyed_at_the_next_await() -> None:
    """Closing a call's iterator ends the backend's coroutine at once, and the worker lives on."""
    async with fleet([SYNTHETIC], interrupt_seconds=5.0) as backends:
        slot = await running(backends)
        pid = pid_of(slot)
        async with aclosing(slot.invoke(WORK, Task(steps=1000, seconds=0.01))) as replies:
            assert Tick(0) == await anext(replies)
            begun = time.monotonic()
        assert time.monotonic() - begun < 1
        assert not slot.touched
        assert pid == (await collect(slot, Task()))[-1].pid


async def test_a_cancelled_caller_interrupts() -> None:
    """Cancelling the task that waits for a call interrupts the call, even if it is cancelled twice."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        call = asyncio.create_task(collect(slot, Task(steps=1000, seconds=0.01)))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert 1 == len(await collect(slot, Task()))


@pytest.mark.parametrize("verb", ["hang_py", "hang_native", "stubborn"])
async def test_a_worker_that_does_not_obey_is_killed(verb: str) -> None:
    """A hang in Python, in native code that keeps the GIL, or a swallowed interrupt ends the process in time; it restarts."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        old = pid_of(slot)
        call = asyncio.create_task(collect(slot, Task(verb, steps=1)))
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        call.cancel()
        await asyncio.wait([call])
        assert time.monotonic() - begun < 2.5
        await until(backends, lambda: slot.status is Status.RUNNING)
        assert old != pid_of(slot)
        assert is_gone(old)


@pytest.mark.parametrize("how", ["stop", "native"])
async def test_a_silent_worker_is_killed(how: str) -> None:
    """A worker without heartbeat, stopped or stuck in native code, is ended and its call told so; no late answer comes."""
    async with fleet([SYNTHETIC], heartbeat_seconds=0.1, heartbeat_limit_seconds=2) as backends:
        slot = await running(backends)
        old = pid_of(slot)
        task = Task("hang_native") if how == "native" else Task(steps=1000, seconds=0.01)
        call = asyncio.create_task(collect(slot, task))
        await asyncio.sleep(0.2)
        if how == "stop":
            os.kill(old, signal.SIGSTOP)
        with pytest.raises(WorkerLostError, match="no sign of life"):
            await call
        with contextlib.suppress(ProcessLookupError):
            os.kill(old, signal.SIGCONT)
        await until(backends, lambda: slot.status is Status.RUNNING)
        assert [1] == [len(await collect(slot, Task()))]


async def test_a_busy_server_does_not_blame_the_worker() -> None:
    """A server whose loop was blocked for longer than the heartbeat limit kills nobody."""
    async with fleet([SYNTHETIC], heartbeat_seconds=0.25, heartbeat_limit_seconds=3) as backends:
        slot = await running(backends)
        pid = pid_of(slot)
        time.sleep(3.5)
        await asyncio.sleep(0.01)
        assert pid == (await collect(slot, Task()))[-1].pid


async def test_late_words_of_a_dead_worker_are_ignored() -> None:
    """Frames that name a call of an earlier worker, or one that has ended, reach nobody."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        host = slot.host
        assert isinstance(host, WorkerHost)
        call = asyncio.create_task(collect(slot, Task(steps=20, seconds=0.01)))
        await asyncio.sleep(0.05)
        (number,) = host._calls
        for ghost in range(number):
            host._handle(frames.Reply(ghost, {"step": 99, "_type": "Tick"}))
            host._handle(frames.Done(ghost))
        host._handle(frames.Started([], []))
        assert [*map(Tick, range(20))] == (await call)[:-1]
        host._handle(frames.Failed(number, "too late", None))


async def test_prints_and_logs_reach_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """What a backend prints or logs appears in the server's log once, without its control characters."""
    caplog.set_level(logging.INFO)
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        await collect(slot, Task("talk"))
        await asyncio.sleep(0.1)
    assert "backend 0 (Synthetic): a printed \\x1b[31mline" in caplog.messages
    logger = "swarmkernel_backend_api.testing.synthetic"
    assert f"backend 0 (Synthetic): {logger}: a logged line" in caplog.messages


async def test_a_worker_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the arguments nor the environment of a worker hold secrets of the backend or of the server."""
    monkeypatch.setenv("SWARMKERNEL_STORE_SQL__URL", "canary-1")
    monkeypatch.setenv("MY_ACCESS_TOKEN", "canary-2")
    monkeypatch.setenv("KEPT_TOKEN", "kept")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    async with fleet([SYNTHETIC], keep_environment=["KEPT_TOKEN"], threads=3) as backends:
        slot = await running(backends, ApiKey="canary-3")
        process = Path(f"/proc/{pid_of(slot)}")
        seen = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
        assert b"canary" not in seen
        assert b"KEPT_TOKEN=kept" in seen
        assert b"OMP_NUM_THREADS=3" in seen


async def test_a_worker_opens_no_port_and_imports_from_nowhere() -> None:
    """A worker has no listening socket, and the folder that the server runs in is not on its import path."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        process = Path(f"/proc/{pid_of(slot)}")
        assert [] == [
            f for f in process.joinpath("fd").iterdir() if "socket" in str(f.readlink()) and listens(f)
        ]
        assert b"-P" in process.joinpath("cmdline").read_bytes().split(b"\0")


def listens(descriptor: Path) -> bool:
    inode = str(descriptor.readlink()).strip("socket:[]")
    return any(
        line.split()[9] == inode and line.split()[3] == "0A"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
    )


async def test_stopping_leaves_no_process(own_children: Callable[[], list[int]]) -> None:
    """Closing the fleet ends every worker, one that hangs and one that still starts included."""
    async with fleet([SYNTHETIC], stop_seconds=0.5, drain_seconds=0.2) as backends:
        slots = [await running(backends) for _ in range(2)]
        starting = await backends.add("synthetic", {"start_seconds": 60})
        await until(backends, lambda: starting.status is Status.LOADING)
        hung = asyncio.create_task(collect(slots[0], Task("hang_native")))
        await asyncio.sleep(0.2)
        pids = own_children()
        assert 3 == len(pids)
    assert isinstance((await asyncio.gather(hung, return_exceptions=True))[0], WorkerLostError)
    assert all(map(is_gone, pids))
    assert [Status.DISABLED] * 3 == [slot.status for slot in (*slots, starting)]


def children(pid: int) -> list[int]:
    return [
        int(p)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for p in (task / "children").read_text().split()
    ]


ORPHANS = """
import asyncio, sys
from swarmkernel_backend_api import Status
from swarmkernel_backend_api.testing import SYNTHETIC, WORK, Task, fleet, until

async def main():
    async with fleet([SYNTHETIC]) as backends:
        slots = [await backends.add("synthetic") for _ in range(2)]
        await until(backends, lambda: all(s.status is Status.RUNNING for s in slots))
        hung = asyncio.create_task(slots[1].ask(WORK, Task("hang_native")))
        await asyncio.sleep(0.2)
        print(*(s.host.pid for s in slots), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_workers_die_with_the_server() -> None:
    """When the server is killed with SIGKILL, its workers are gone within two seconds, one that hangs in native code too."""
    server = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server, server.stdout:
        pids = [int(p) for p in server.stdout.readline().split()]
        server.kill()
        server.wait()
        deadline = time.monotonic() + 2
        while not all(map(finished, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert 2 == len(pids)
        assert all(map(finished, pids))


def finished(pid: int) -> bool:
    """Gone, or a zombie that nobody has reaped yet."""
    try:
        return "Z" == Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_ctrl_c_is_left_to_the_server() -> None:
    """A worker is not in the server's process group, and SIGINT does not end it."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        pid = pid_of(slot)
        assert os.getpgid(0) != os.getpgid(pid)
        os.kill(pid, signal.SIGINT)
        assert pid == (await collect(slot, Task()))[-1].pid


async def test_what_a_worker_started_ends_with_it() -> None:
    """A process that a backend started and forgot is gone when its worker has died."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        worker = pid_of(slot)
        await collect(slot, Task("litter"))
        (child,) = children(worker)
        os.kill(worker, signal.SIGKILL)
        await until(backends, lambda: slot.status is Status.ERRORED)
        await until(backends, lambda: finished(child), 2)


async def test_noise_before_the_first_frame_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an interpreter prints before the worker takes over its pipe does no harm."""
    (tmp_path / "sitecustomize.py").write_text("print('Hello from the site!', flush=True)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        assert 1 == len(await collect(slot, Task()))


@pytest.fixture(name="tight")
def _tight() -> Iterator[Path]:
    """A memory cgroup of 200 MiB, to put a worker into."""
    v1 = Path("/sys/fs/cgroup/memory")
    group = (v1 if v1.exists() else Path("/sys/fs/cgroup")) / f"swarmkernel-test-{os.getpid()}"
    try:
        group.mkdir()
        limit = group / ("memory.limit_in_bytes" if v1.exists() else "memory.max")
        limit.write_text(str(200 << 20))
    except OSError as error:
        pytest.skip(f"memory cgroups cannot be made here: {error}")
    yield group
    group.rmdir()


async def test_a_worker_killed_for_want_of_memory_is_told_apart(tight: Path) -> None:
    """When the operating system kills a worker because memory is short, its call is lost as such, and not to be tried again."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await running(backends)
        (tight / "cgroup.procs").write_text(str(pid_of(slot)))
        with pytest.raises(WorkerLostError, match="ran out of memory") as caught:
            await collect(slot, Task("oom_host"))
        assert ("worker_oom", False) == (caught.value.error_id, caught.value.may_retry)
        await until(backends, lambda: slot.status is Status.RUNNING)
