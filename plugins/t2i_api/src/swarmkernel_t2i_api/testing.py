"""For the tests of packages with backends that make pictures: a suite that every one of them must pass."""

from __future__ import annotations

import asyncio
import io
from contextlib import aclosing
from typing import Any, ClassVar

import attrs

from swarmkernel_backend_api import BackendSlot
from swarmkernel_backend_api.testing import BackendConformance, fleet
from swarmkernel_models_api import LOAD_MODEL, Loaded, LoadModel, LoadProgress
from swarmkernel_t2i_api.capability import GENERATE
from swarmkernel_t2i_api.types import EncodedOutput, EncodedPreview, ImageFormat, ImageJob, Progress

#: Seeds of jobs that run at the same time, and how many times the usual width each has.
_AT_ONCE = ((5, 1), (6, 1), (7, 2))


class GenerateConformance(BackendConformance):
    """Subclass this in a test module, and say what to generate with; see `BackendConformance`::

        class TestSolid(GenerateConformance):
            kind = SOLID
            job = ImageJob("1", "a cat", width=64, height=64, steps=4)

    `load` is the model to load before, for a backend that needs one. `interrupt_seconds` is how long it may take to
    stop, about one step of `job`; `interrupt_steps` is how many steps take it longer than half a second. A backend that
    does not depend on the seed says so with `seeded = False`.
    """

    abilities: ClassVar[set[str]] = {"generate"}
    job: ClassVar[ImageJob] = ImageJob("1", "a cat", width=64, height=64, steps=4, seed=1)
    load: ClassVar[LoadModel | None] = None
    interrupt_seconds: ClassVar[float] = 5.0
    interrupt_steps: ClassVar[int] = 150
    seeded: ClassVar[bool] = True

    async def _ready(self, slot: BackendSlot) -> BackendSlot:
        if self.load is not None:
            async with aclosing(slot.invoke(LOAD_MODEL, self.load)) as replies:
                *progress, loaded = [reply async for reply in replies]
            assert isinstance(loaded, Loaded)
            assert all(isinstance(reply, LoadProgress) and 0 <= reply.fraction <= 1 for reply in progress)
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

    async def test_jobs_at_once(self) -> None:
        """Jobs that run at the same time get each its own picture."""
        async with fleet([self.kind]) as backends:
            slot = await self._ready(await self._running(backends))
            if slot.max_usages < len(_AT_ONCE):
                return
            alone = [await self._pixels(slot, **changes) for changes in self._at_once()]
            company = await asyncio.gather(*(self._pixels(slot, **changes) for changes in self._at_once()))
        assert [own.shape for own in alone] == [found.shape for found in company]
        first, second = alone[:2]
        if self.seeded:
            assert _distance(company[0], first) < _distance(company[0], second)
            assert _distance(company[1], second) < _distance(company[1], first)

    async def test_heeds_what_it_announces(self) -> None:
        """A parameter that needs a feature which the backend announces changes the picture."""
        shown_by = _shown_by(self.job.width, self.job.height)
        async with fleet([self.kind]) as backends:
            slot = await self._ready(await self._running(backends))
            for feature in sorted(shown_by.keys() & set(slot.features)):
                one, other = [await self._pixels(slot, **changes) for changes in shown_by[feature]]
                assert _distance(one, other) > 0, f"{feature} changes nothing"

    def _at_once(self) -> list[dict[str, Any]]:
        return [
            {"id": f"{n}", "seed": seed, "width": self.job.width * times}
            for n, (seed, times) in enumerate(_AT_ONCE)
        ]

    async def _pixels(self, slot: BackendSlot, **changes: Any) -> Any:
        """The picture of a job, an array of height x width x 3."""
        import numpy as np  # noqa: PLC0415
        from PIL import Image  # noqa: PLC0415

        found = (await self._made(slot, previews=False, **changes))[-1]
        return np.asarray(Image.open(io.BytesIO(found.data)).convert("RGB"), dtype=float)

    async def test_interrupt_is_obeyed(self) -> None:
        """An interrupted job ends soon, and the same worker then makes the next picture."""
        async with fleet([self.kind], interrupt_seconds=self.interrupt_seconds) as backends:
            slot = await self._ready(await self._running(backends))
            host = slot.host
            task = asyncio.create_task(self._made(slot, steps=self.interrupt_steps))
            await asyncio.sleep(0.3)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), "the job was over before it could be interrupted: raise interrupt_steps"
            assert isinstance((await self._made(slot))[-1], EncodedOutput)
            assert slot.host is host


def _shown_by(width: int, height: int) -> dict[str, list[dict[str, Any]]]:
    """By feature, what two jobs differ in, so that their pictures must differ too."""
    red, blue, black, white = (_plain(colour, width, height) for colour in ("red", "blue", "black", "white"))
    drawn = {"init_image": red, "init_creativity": 0.5}
    return {
        "variation_seed": [{"variation_seed": seed, "variation_strength": 0.5} for seed in (3, 4)],
        "init_image": [drawn, drawn | {"init_image": blue}],
        "mask_image": [drawn | {"mask_image": mask} for mask in (black, white)],
    }


def _plain(colour: str, width: int, height: int) -> bytes:
    from PIL import Image  # noqa: PLC0415

    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def _distance(one: Any, other: Any) -> float:
    """The mean difference of two pictures; infinite when they have not the same size."""
    return float(abs(one - other).mean()) if one.shape == other.shape else float("inf")
