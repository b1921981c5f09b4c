"""The suites for backends of others, held against a ComfyUI server as a backend."""

from typing import ClassVar

import pytest
from fake_comfy import painting

from swarmkernel_backend_api.testing import BackendConformance
from swarmkernel_backends_remote.addresses import Rules
from swarmkernel_backends_remote.comfy_backend import comfy_type
from swarmkernel_t2i_api import ImageJob
from swarmkernel_t2i_api.testing import GenerateConformance


@pytest.fixture(autouse=True)
def _painting(request):
    with painting() as comfy:
        request.cls.settings = {
            "Address": comfy.address,
            "AuthorizationHeader": "Bearer x",
            "AllowIdle": True,
        }
        yield


class TestComfy(BackendConformance):
    """The connection to a server."""

    kind = comfy_type(Rules())
    abilities: ClassVar = {"generate", "load_model", "free_memory", "refresh_models"}


class TestComfyGenerates(GenerateConformance):
    """A server that paints."""

    kind = comfy_type(Rules())
    abilities: ClassVar = {"generate", "load_model", "free_memory", "refresh_models"}
    job = ImageJob("1", "slow", model="alpha", width=96, height=64, steps=6)
