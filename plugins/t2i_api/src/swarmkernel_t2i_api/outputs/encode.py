"""Turns what a backend yields into bytes, beside it in the worker.

The server imports this module too, for the capability that names it, so the pixel work is imported when it is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

from swarmkernel_t2i_api.outputs.metadata import with_generation_time
from swarmkernel_t2i_api.types import EncodedOutput, EncodedPreview, ImageJob, Output, Preview, Progress

#: A preview is left out if the one before it is younger than this.
PREVIEW_INTERVAL_SECONDS = 0.1

Encoded: TypeAlias = Progress | EncodedPreview | EncodedOutput


async def encode_outputs(
    method: Callable[[ImageJob], AsyncGenerator[Any, None]], job: ImageJob
) -> AsyncGenerator[Encoded, None]:
    """Run a backend's `generate` on `job` and yield its replies with pictures as bytes.

    Progress, and what is encoded already, passes through. Pixels are compressed in a thread.
    Closing this generator closes the backend's, so that an interrupt reaches it.
    """
    started = time.monotonic()
    shown = started - PREVIEW_INTERVAL_SECONDS
    async with aclosing(method(job)) as replies:
        async for reply in replies:
            if isinstance(reply, Output):
                yield await asyncio.to_thread(_output, reply.image, job, time.monotonic() - started)
            elif not isinstance(reply, Preview):
                yield reply
            elif job.previews and time.monotonic() - shown >= PREVIEW_INTERVAL_SECONDS:
                shown = time.monotonic()
                yield await asyncio.to_thread(_preview, reply.image)


def _output(image: Any, job: ImageJob, seconds: float) -> EncodedOutput:
    from swarmkernel_t2i_api.outputs.pixels import encode_picture, thumbnail, to_image  # noqa: PLC0415

    text = None if job.metadata is None else with_generation_time(job.metadata, seconds)
    data, media_type, extension = encode_picture(image, job.format, text)
    return EncodedOutput(data, media_type, extension, metadata=text, thumbnail=thumbnail(to_image(image)))


def _preview(image: Any) -> EncodedPreview:
    from swarmkernel_t2i_api.outputs.pixels import encode_preview  # noqa: PLC0415

    return EncodedPreview(*encode_preview(image))
