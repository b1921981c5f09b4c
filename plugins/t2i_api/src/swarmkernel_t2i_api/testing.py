"""For the tests of packages with backends that make pictures: a suite that every one of them must pass."""

from __future__ import annotations

import asyncio
import io
from contextlib import aclosing
from typing import Any, ClassVar

import attrs

from swarmkernel_backend_api import BackendSlot
from swarmkernel_backend_api.testing import BackendConformance, fleet
from swarmkernel_models_api import LOAD_MODEL, LoadModel
from swarmkernel_t2i_api.capability import GENERATE
from swarmkernel_t2i_api.types import EncodedOutput, EncodedPreview, ImageFormat, ImageJob, Progress


class GenerateConformance(BackendConformance):
    """Subclass this in a test module, and say what to generate with; see `BackendConformance`::

        class TestSolid(GenerateConformance):
            kind = SOLID
            job = ImageJob("1", "a cat", width=64, height=64, steps=4)

    `load` is the model to load before, for a backend that needs one. `interrupt_seconds` is how long it may take to
    stop, about one step of `job`. A backend that does not depend on the seed says so with `seeded = False`.
    """

    abilities: ClassVar[set[str]] = {"generate"}
    job: ClassVar[ImageJob] = ImageJob("1", "a cat", width=64, height=64, steps=4, seed=1)
    load: ClassVar[LoadModel | None] = None
    interrupt_seconds: ClassVar[float] = 10.0
    seeded: ClassVar[bool] = True

    async def _ready(self, slot: BackendSlot) -> BackendSlot:
        if self.load is not None:
            async with aclosing(slot.invoke(LOAD_MODEL, self.load)) as replies:
                async for _ in replies:
                    pass
        return slot

    async def _made(self, slot: BackendSlot, **changes: Any) -> list[Any]:
        job = attrs.evolve(self.job, format=ImageFormat(embed=False), **changes)
        async with aclosing(slot.invoke(GENERATE, job)) as replies:
            return [reply async for reply in replies]

    async def test_makes_one_picture(self) -> None:
        """A job gives exactly one picture of the size that was asked for, after progress that only rises."""
        from PIL import Image  # noqa: PLC0415

        async with fleet([self.kind]) as backends:
            replies = await self._made(await self._ready(await self._running(backends)))
        outputs = [reply for reply in replies if isinstance(reply, EncodedOutput)]
        assert len(outputs) == 1
        assert Image.open(io.BytesIO(outputs[0].data)).size == (self.job.width, self.job.height)
        steps = [reply.step / reply.steps for reply in replies if isinstance(reply, Progress)]
        assert sorted(steps) == steps
        assert all(0 <= step <= 1 for step in steps)

    async def test_same_seed_same_picture(self) -> None:
        """The same job gives the same bytes again; another seed gives others."""
        async with fleet([self.kind]) as backends:
            slot = await self._ready(await self._running(backends))
            first, again, other = [
                (await self._made(slot, seed=seed, previews=False))[-1].data for seed in (5, 5, 6)
            ]
        assert first == again
        assert (first != other) == self.seeded

    async def test_previews_are_wished_for(self) -> None:
        """Who wants no previews gets none."""
        async with fleet([self.kind]) as backends:
            replies = await self._made(await self._ready(await self._running(backends)), previews=False)
        assert [reply for reply in replies if isinstance(reply, EncodedPreview)] == []

    async def test_interrupt_is_obeyed(self) -> None:
        """An interrupted job ends soon, and the same worker then makes the next picture."""
        async with fleet([self.kind], interrupt_seconds=self.interrupt_seconds) as backends:
            slot = await self._ready(await self._running(backends))
            host = slot.host
            task = asyncio.create_task(self._made(slot, steps=150))
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert isinstance((await self._made(slot))[-1], EncodedOutput)
            assert slot.host is host
