"""The backend. It lives in a process of its own, so this module may import heavy libraries."""

import asyncio
import random
from collections.abc import AsyncIterator

import attrs
from PIL import Image, ImageDraw

from swarmkernel_backend_api import NotConfiguredError
from swarmkernel_example.settings import ExampleSettings
from swarmkernel_t2i_api import ImageJob, Output, Preview, Progress


@attrs.define
class ExampleBackend:
    """Paints the pattern of its settings, in colours that follow from the seed."""

    settings: ExampleSettings

    async def start(self) -> None:
        """Get ready: load what there is to load, or say what is missing."""
        if self.settings.width < 1:
            raise NotConfiguredError("Setting 'width' must be at least 1.")

    async def stop(self) -> None:
        """Let go of everything."""

    async def generate(self, job: ImageJob) -> AsyncIterator[Progress | Preview | Output]:
        """Paint one picture, step by step. An interrupt ends this at the next await."""
        for step in range(job.steps):
            await asyncio.sleep(0.01)
            yield Progress(step + 1, job.steps)
            if job.previews:
                yield Preview(self._paint(job.seed, job.width // 8, job.height // 8))
        yield Output(self._paint(job.seed, job.width, job.height))

    def _paint(self, seed: int, width: int, height: int) -> Image.Image:
        chance = random.Random(seed)
        back, front = ((chance.randrange(256), chance.randrange(256), chance.randrange(256)) for _ in "bf")
        picture = Image.new("RGB", (width, height), back)
        draw = ImageDraw.Draw(picture)
        size = self.settings.width
        rows = range(0, height, size) if self.settings.pattern == "squares" else [0]
        tall = size if self.settings.pattern == "squares" else height
        for row, top in enumerate(rows):
            for left in range(row % 2 * size, width, 2 * size):
                draw.rectangle((left, top, left + size - 1, top + tall - 1), fill=front)
        return picture
