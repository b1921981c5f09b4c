"""The adapter that runs beside a backend's generate."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from contextlib import aclosing

import numpy as np
from PIL import Image

from swarmkernel_t2i_api import (
    EncodedOutput,
    EncodedPreview,
    ImageFormat,
    ImageJob,
    Output,
    Preview,
    Progress,
)
from swarmkernel_t2i_api.outputs.encode import encode_outputs
from swarmkernel_t2i_api.outputs.metadata import build_metadata
from swarmkernel_t2i_api.outputs.read import read_metadata

TEXT = build_metadata({"prompt": "é"}, {"date": "2026-08-21"}, version="1.0.0")


async def painter(job: ImageJob):
    """A backend that shows a preview with each of its steps."""
    for step in range(4):
        yield Progress(step, 4)
        yield Preview(Image.new("RGB", (600, 300)))
        await asyncio.sleep(0.03)
    yield Output(np.zeros((job.height, job.width, 3), np.uint8))


async def collect(method, job: ImageJob) -> list:
    """All replies of the adapter."""
    return [reply async for reply in encode_outputs(method, job)]


async def test_a_whole_job():
    """Progress passes, previews are thinned out, and the picture comes with its file, text and thumbnail."""
    job = ImageJob("1", "é", width=64, height=48, metadata=TEXT, format=ImageFormat(kind="WEBP"))
    replies = await collect(painter, job)
    output = replies[-1]

    assert [Progress(step, 4) for step in range(4)] == [r for r in replies if isinstance(r, Progress)]
    assert 1 <= sum(isinstance(r, EncodedPreview) for r in replies) <= 2
    assert isinstance(output, EncodedOutput)
    assert ("image/webp", "webp") == (output.media_type, output.extension)
    assert output.metadata == read_metadata(output.data)
    assert json.loads(output.metadata)["sui_extra_data"]["generation_time"].endswith(" sec")
    assert Image.open(io.BytesIO(output.thumbnail)).size == (64, 48)


async def test_previews_are_small_jpegs():
    """A preview travels as a JPEG of at most 512 pixels."""
    replies = await collect(painter, ImageJob("1", "x"))
    preview = next(r for r in replies if isinstance(r, EncodedPreview))

    assert preview.media_type == "image/jpeg"
    assert Image.open(io.BytesIO(preview.data)).size == (512, 256)


async def test_previews_can_be_off():
    """Without previews the backend's are dropped."""
    replies = await collect(painter, ImageJob("1", "x", previews=False))

    assert not any(isinstance(r, EncodedPreview) for r in replies)


async def test_ready_bytes_pass():
    """Previews in bytes, and outputs that are encoded already, are kept as they are."""
    ready = EncodedOutput(b"data", "video/mp4", "mp4")

    async def generate(job):
        yield Preview(b"\xff\xd8\xff...")
        yield ready

    assert [EncodedPreview(b"\xff\xd8\xff..."), ready] == await collect(generate, ImageJob("1", "x"))


async def test_no_metadata_stays_none():
    """A job without metadata gives a file without it."""
    output = (await collect(painter, ImageJob("1", "x", width=32, height=32)))[-1]

    assert output.metadata is None
    assert read_metadata(output.data) is None


async def test_closing_reaches_the_backend():
    """Closing the adapter's generator closes the backend's at once."""
    closed = []

    async def endless(job):
        try:
            while True:
                yield Progress(1, 2)
        finally:
            closed.append(True)

    async with aclosing(encode_outputs(endless, ImageJob("1", "x"))) as replies:
        assert await anext(replies) == Progress(1, 2)

    assert [True] == closed


async def test_the_loop_goes_on_while_pixels_are_compressed():
    """Encoding a large picture does not hold up the event loop."""
    longest = 0.0
    job = ImageJob("1", "x", width=3000, height=3000, metadata=TEXT)

    async def generate(job):
        yield Output(np.random.default_rng(1).integers(0, 256, (3000, 3000, 3), np.uint8))

    async def watch():
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before)

    watcher = asyncio.create_task(watch())
    started = asyncio.get_running_loop().time()
    await collect(generate, job)
    took = asyncio.get_running_loop().time() - started
    watcher.cancel()

    assert longest < took / 2


def test_the_server_side_is_light():
    """Importing the capability, the files and the views loads neither Pillow nor NumPy."""
    code = (
        "import sys, swarmkernel_t2i_api, swarmkernel_t2i_api.outputs.view, swarmkernel_t2i_api.outputs.read;"
        "print(sorted({'PIL', 'numpy', 'torch'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
