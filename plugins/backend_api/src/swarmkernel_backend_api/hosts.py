"""Where a backend lives: in a worker process, or in the server's own loop. Both are used in the same way."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

import attrs

from swarmkernel_backend_api.capability import Capability
from swarmkernel_backend_api.errors import BackendError, WorkerLostError
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.types import BackendType
from swarmkernel_backend_api.worker import abilities, readable, resolve

log = logging.getLogger(__name__)


class Host(Protocol):
    """A place where one backend lives, once."""

    abilities: frozenset[str]
    features: tuple[str, ...]
    lost: "asyncio.Future[WorkerLostError]"

    async def start(self) -> None:
        """Start the backend; raises what it raised."""

    def invoke(self, capability: Capability, request: Any) -> AsyncGenerator[Any, None]:
        """Call a method; closing the generator interrupts it."""

    async def stop(self) -> None:
        """Stop the backend, in bounded time, whatever it does. May be called at any time, and twice."""


@attrs.define(eq=False)
class LocalHost:
    """A backend in the server's own loop; ``introduce`` is called with it before it starts."""

    kind: BackendType
    settings: Any
    limits: BackendApiSettings
    label: str
    introduce: Callable[[Any], None]
    abilities: frozenset[str] = attrs.field(default=frozenset(), init=False)
    features: tuple[str, ...] = attrs.field(default=(), init=False)
    lost: "asyncio.Future[WorkerLostError]" = attrs.field(init=False)
    _backend: Any = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Make and start the backend."""
        make = resolve(self.kind.make) if isinstance(self.kind.make, str) else self.kind.make
        try:
            self._backend = make(self.settings)
            self.introduce(self._backend)
            await self._backend.start()
        except Exception as error:
            raise readable(error) from error
        self.abilities = abilities(self._backend)
        self.features = tuple(sorted(getattr(self._backend, "features", ())))

    async def invoke(self, capability: Capability, request: Any) -> AsyncGenerator[Any, None]:
        """Call the backend's method."""
        if self._backend is None:
            raise WorkerLostError(f"{self.label} is stopped.")
        if capability.name not in self.abilities:
            raise BackendError(f"{self.label} cannot {capability.name}.", "not_supported")
        try:
            result = capability.call(getattr(self._backend, capability.name), request)
            if not capability.streams:
                yield await result
                return
            async with contextlib.aclosing(result):
                async for value in result:
                    yield value
        except Exception as error:
            raise readable(error) from error

    async def stop(self) -> None:
        """Stop the backend, within the limit."""
        backend, self._backend = self._backend, None
        if backend is None:
            return
        try:
            async with asyncio.timeout(self.limits.stop_seconds):
                await backend.stop()
        except Exception:
            log.exception("%s did not stop cleanly", self.label)
