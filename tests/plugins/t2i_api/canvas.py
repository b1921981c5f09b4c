"""A plugin with a backend that paints one colour, and does what words in the prompt say. Runs in its own process."""

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
from pathlib import Path

import attrs
from PIL import Image

from swarmkernel_backend_api import BackendError, BackendType, NewBackend, hookimpl, setting
from swarmkernel_models_api import Loaded, LoadProgress
from swarmkernel_t2i_api import Output, Param, Preview, Progress

log = logging.getLogger(__name__)
DIARY = Path(os.environ.get("CANVAS_DIARY", os.devnull))


def note(text):
    """One line in the diary that the tests read."""
    with DIARY.open("a") as file:
        file.write(f"{text}\n")


@attrs.frozen
class Settings:
    """How many pictures at once, and how long a step and a load take."""

    slots: int = 1
    step_seconds: float = 0.0
    load_seconds: float = 0.0
    key: str = setting("", title="ApiKey", secret=True)


@attrs.define
class Canvas:
    """The colour follows from the seed, the init image and the variation. Words of the prompt: ``slow``, ``refuse``, ``die``, ``die-once``, ``empty``."""

    settings: Settings
    model: str = ""

    async def start(self):
        note(f"start {os.getpid()}")

    async def stop(self):
        note("stop")

    async def load_model(self, request):
        note(f"load {request.name}")
        yield LoadProgress("reading", 0.5)
        await asyncio.sleep(self.settings.load_seconds)
        if "broken" in request.name:
            raise BackendError("this file is broken")
        self.model = request.name
        yield Loaded(request.name)

    async def generate(self, job):
        words = job.prompt.split()
        note(f"begin {job.prompt} seed={job.seed} model={self.model} extra={job.extra}")
        if job.init_image:
            note(f"init {hashlib.sha256(job.init_image).hexdigest()} {job.init_creativity}")
        for lora in job.loras:
            note(f"lora {Path(lora.path).name} {lora.weight}")
        with finishing(job):
            for step in range(job.steps):
                await asyncio.sleep(0.05 if "slow" in words else self.settings.step_seconds)
                yield Progress(step + 1, job.steps)
                yield Preview(paint(job.seed, 8, 8))
                if step == 1:
                    fail(words)
            if "empty" not in words:
                yield Output(paint(job.seed, job.width, job.height, blue_of(job)))


@contextlib.contextmanager
def finishing(job):
    """Say in the diary how a job ended."""
    try:
        yield
    except BaseException as error:
        note(f"stopped {job.prompt} {type(error).__name__}")
        raise
    note(f"end {job.prompt} seed={job.seed}")


def fail(words):
    """Fail as the prompt asks."""
    if "refuse" in words:
        raise BackendError("the canvas is full", "canvas_full")
    once = Path(f"{DIARY}.died")
    if "die" in words or ("die-once" in words and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def blue_of(job):
    """How much blue a job has: what it starts from and its variation show in it."""
    begun = hashlib.sha256(job.init_image).digest()[0] if job.init_image else 77
    return (begun + (job.variation_seed or 0)) % 256


def paint(seed, width, height, blue=77):
    """A picture of one colour."""
    return Image.new("RGB", (width, height), (seed % 256, seed // 256 % 256, blue))


CANVAS = BackendType(
    "canvas",
    "Canvas",
    make="canvas:Canvas",
    settings=Settings,
    features=("comfyui", "variation_seed", "brush", "init_image", "lora"),
    slots=lambda settings: settings.slots,
)


@hookimpl
def backend_types():
    return [CANVAS]


@hookimpl
def backend_defaults(services):
    count = int(os.environ.get("CANVAS_COUNT", "1"))
    settings = {
        "slots": int(os.environ.get("CANVAS_SLOTS", "1")),
        "step_seconds": float(os.environ.get("CANVAS_STEP", "0")),
        "load_seconds": float(os.environ.get("CANVAS_LOAD", "0")),
    }
    return [NewBackend("canvas", f"Canvas {number}", settings) for number in range(count)]


@hookimpl
def t2i_params():
    return [
        Param("Brush Size", "integer", "3", "How broad the brush is.", ignore="3", min=1, max=9),
        Param("Missing Thing", "text", "", "Nobody can do this.", feature_flag="not_there"),
    ]
