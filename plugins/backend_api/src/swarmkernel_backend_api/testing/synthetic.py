"""A backend that does nothing, in every way in which a backend can go wrong."""

import asyncio
import ctypes
import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import attrs

from swarmkernel_backend_api.capability import Capability, Freed, FreeMemory
from swarmkernel_backend_api.errors import BackendError, NotConfiguredError
from swarmkernel_backend_api.forms import setting
from swarmkernel_backend_api.types import BackendType

log = logging.getLogger(__name__)

Verb = Literal[
    "ok",
    "slow_start",
    "hang_py",
    "hang_native",
    "stubborn",
    "segv",
    "raise",
    "oom_cuda",
    "oom_host",
    "exit",
    "garbage",
    "wrong_reply",
    "huge",
    "talk",
    "litter",
]


@attrs.frozen
class SyntheticSettings:
    """What happens at the start (``verb``), and how it presents itself."""

    verb: Verb = "ok"
    start_seconds: float = 0.0
    slots: int = 1
    colour: str = setting("#336699", title="Colour", description="Any colour", placeholder="#rrggbb")
    secret: str = setting("", title="ApiKey", secret=True)
    needs: str | None = setting("something", description="What it cannot do without")
    marker: str = setting("", description="A file that grows by one line with each start")


@attrs.frozen
class Task:
    """Do ``steps`` steps of ``seconds`` each, then what ``verb`` says; ``payload`` comes back."""

    verb: Verb = "ok"
    steps: int = 0
    seconds: float = 0.0
    payload: bytes = b""


@attrs.frozen
class Tick:
    """A step is done."""

    step: int


@attrs.frozen
class Result:
    """The work is done: the payload, and which process did it."""

    payload: bytes
    pid: int


WORK: Final = Capability(
    "work", Task, Tick | Result, at="swarmkernel_backend_api.testing.synthetic:WORK", streams=True
)
"""The ability of the synthetic backend."""


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def misbehave(verb: Verb) -> None:  # noqa: C901, PLR0912  # one case per way to fail
    """Fail in the way that the verb names; ``ok`` does nothing."""
    match verb:
        case "hang_py":
            while True:
                time.sleep(0.01)
        case "hang_native":
            # PyDLL keeps the GIL, so that no other thread of this process runs.
            ctypes.PyDLL(None).sleep(3600)
        case "segv":
            ctypes.string_at(0)
        case "raise":
            raise RuntimeError("as asked")
        case "oom_cuda":
            raise OutOfMemoryError("CUDA out of memory")
        case "oom_host":
            hoard = []
            while True:
                hoard.append(b"x" * (16 << 20))
        case "litter":
            subprocess.Popen(["sleep", "3600"])  # noqa: S607  # a child that nobody waits for
        case "exit":
            os._exit(3)
        case "garbage":
            for descriptor in _pipes():
                os.write(descriptor, b"\xff" * 64)
            time.sleep(3600)
        case "talk":
            print("a printed \x1b[31mline", flush=True)  # noqa: T201  # printing is the point
            log.warning("a logged line")
        case _:
            pass


def _pipes() -> list[int]:
    """The pipes of this process that are not its standard streams."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # numbers, not paths
        try:
            if int(name) > 2 and stat.S_ISFIFO(os.fstat(int(name)).st_mode):
                os.write(int(name), b"")
                found.append(int(name))
        except OSError:
            continue
    return found


@attrs.define(eq=False)
class SyntheticBackend:
    """Does what it is told to, and fails as it is told to."""

    settings: SyntheticSettings
    features: tuple[str, ...] = ("synthetic_live",)
    freed: list[bool] = attrs.field(factory=list)

    async def start(self) -> None:
        """Start as the settings say."""
        if self.settings.marker:
            with open(self.settings.marker, "a", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123  # a few bytes
                file.write(f"{os.getpid()}\n")
        if not self.settings.needs:
            raise NotConfiguredError("Setting 'needs' is empty.")
        await asyncio.sleep(self.settings.start_seconds)
        misbehave(self.settings.verb)

    async def stop(self) -> None:
        """Nothing to let go of."""

    async def free_memory(self, request: FreeMemory) -> Freed:
        """Pretend to have memory."""
        self.freed.append(request.system_ram)
        log.info("freed system_ram=%s", request.system_ram)
        return Freed(freed=True)

    async def work(self, task: Task) -> AsyncIterator[Any]:
        """Take steps, then fail or finish."""
        for step in range(task.steps):
            await asyncio.sleep(task.seconds)
            yield Tick(step)
        if task.verb == "stubborn":
            await _ignore_interrupts()
        if task.verb == "wrong_reply":
            yield Freed(freed=True)
        if task.verb == "raise" and task.payload:
            raise BackendError(task.payload.decode(), "as_asked")
        misbehave(task.verb)
        yield Result(bytes(8 << 20) if task.verb == "huge" else task.payload, os.getpid())


async def _ignore_interrupts() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            sys.stderr.write("not now\n")


SYNTHETIC: Final = BackendType(
    "synthetic",
    "Synthetic",
    make="swarmkernel_backend_api.testing.synthetic:SyntheticBackend",
    settings=SyntheticSettings,
    description="Fails on demand. For tests.",
    is_standard=False,
    features=("synthetic",),
    slots=lambda settings: settings.slots,
)
"""A backend type for tests; evolve it with ``attrs.evolve`` for other flags."""
