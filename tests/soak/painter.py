"""A plugin for the soak tests: a backend in a worker of its own that makes small pictures without any library."""

import asyncio
import io
import os
import random

import attrs
from PIL import Image

from swarmkernel_backend_api import BackendType, NewBackend, hookimpl
from swarmkernel_models_api import Loaded
from swarmkernel_t2i_api import Output, Preview, Progress

SLOTS = int(os.environ.get("PAINTER_SLOTS", "4"))
SIDE = 520
PAUSES = {"slow": 0.1, "slower": 0.25}
"""Seconds per step."""


def noise() -> bytes:
    """A JPEG of some 170 KB."""
    file = io.BytesIO()
    Image.frombytes("RGB", (SIDE, SIDE), random.Random(5).randbytes(SIDE * SIDE * 3)).save(file, "JPEG")
    return file.getvalue()


@attrs.frozen
class Settings:
    """Nothing of this changes what is painted."""

    label: str = ""
    number: int = 1
    share: float = 0.5
    flag: bool = False


@attrs.define
class Painter:
    """Paints one colour. `PAUSES` counts for the first word of the prompt; with `noisy` in it previews are large."""

    settings: Settings

    async def start(self):
        """Nothing to start."""

    async def stop(self):
        """Nothing to stop."""

    async def load_model(self, request):
        """Any model will do."""
        yield Loaded(request.name)

    async def generate(self, job):
        """One picture."""
        words = job.prompt[:100].split()
        preview = Preview(noise()) if "noisy" in words else None
        for step in range(job.steps):
            await asyncio.sleep(PAUSES.get(words[0], 0) if words else 0)
            yield Progress(step + 1, job.steps)
            if preview is not None:
                yield preview
        yield Output(Image.new("RGB", (job.width, job.height), (job.seed % 256, 50, 90)))


PAINTER = BackendType(
    "painter", "Painter", make="painter:Painter", settings=Settings, slots=lambda settings: SLOTS
)


@attrs.define
class Spare:
    """Does nothing, and costs no process."""

    settings: Settings

    async def start(self):
        """Nothing to start."""

    async def stop(self):
        """Nothing to stop."""


SPARE = BackendType("spare", "Spare", make=Spare, settings=Settings, in_process=True)


@hookimpl
def backend_types():
    """One that paints, and one to have many of."""
    return [PAINTER, SPARE]


@hookimpl
def backend_defaults(services):
    """One of it."""
    return [NewBackend("painter", "Painter", {})]
