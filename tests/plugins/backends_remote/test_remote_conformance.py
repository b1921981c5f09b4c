"""The suites for backends of others, held against another server as a backend."""

import asyncio
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from liar import lying, png, url

from swarmkernel_backend_api import BackendSlot
from swarmkernel_backend_api.testing import BackendConformance
from swarmkernel_backends_remote.addresses import Rules
from swarmkernel_backends_remote.swarm_backend import swarm_type
from swarmkernel_t2i_api import ImageJob
from swarmkernel_t2i_api.testing import GenerateConformance


def painted(body: Mapping[str, Any]) -> list[dict]:
    """The frames of a server that paints what the seed and the pictures say."""
    given = zlib.crc32((body.get("initimage", "") + body.get("maskimage", "")).encode())
    picture = url(png(body["width"], body["height"], (body["seed"] + given) % 256))
    steps = [
        {"gen_progress": {"overall_percent": step / body["steps"], "preview": url(png())}}
        for step in range(1, body["steps"] + 1)
    ]
    return [*steps, {"image": picture, "batch_index": "0"}, {"discard_indices": []}]


@pytest.fixture(autouse=True)
async def _painting(request):
    async with lying() as liar:
        liar.says["GenerateText2ImageWS"] = painted
        request.cls.settings = {"Address": liar.address, "AuthorizationHeader": "Bearer x", "AllowIdle": True}
        yield


class TestControl(BackendConformance):
    """The connection to another server."""

    kind = swarm_type(Rules())
    abilities: ClassVar = {"refresh_models"}


class TestMirror(GenerateConformance):
    """A backend over there, as a backend here."""

    kind = swarm_type(Rules())
    abilities: ClassVar = {"refresh_models"}
    interrupt_steps = 2000
    job = ImageJob("1", "a cat", model="alpha", width=96, height=64, steps=6)

    async def _ready(self, slot: BackendSlot) -> BackendSlot:
        (mirror,) = slot.host._backend._children.slots
        while mirror.host is None:
            await asyncio.sleep(0.01)
        return mirror
