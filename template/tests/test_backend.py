"""The suite that every backend must pass, with real worker processes."""

from typing import ClassVar

from swarmkernel_example.plugin import backend_types
from swarmkernel_t2i_api import ImageJob
from swarmkernel_t2i_api.testing import GenerateConformance


class TestExample(GenerateConformance):
    """Squares."""

    kind = next(iter(backend_types()))
    settings: ClassVar = {"pattern": "squares", "ApiKey": "open sesame"}
    job = ImageJob("1", "anything", width=96, height=64, steps=4)
    interrupt_seconds = 2.0
