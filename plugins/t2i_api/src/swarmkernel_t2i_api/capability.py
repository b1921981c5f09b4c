"""The one ability that text to image needs of a backend."""

from __future__ import annotations

from swarmkernel_backend_api import Capability
from swarmkernel_t2i_api.outputs.encode import encode_outputs
from swarmkernel_t2i_api.types import EncodedOutput, EncodedPreview, ImageJob, Progress, RawFrame

GENERATE = Capability(
    "generate",
    ImageJob,
    Progress | EncodedPreview | EncodedOutput | RawFrame,
    at="swarmkernel_t2i_api.capability:GENERATE",
    streams=True,
    adapter=encode_outputs,
)
"""`generate(job)` of a backend: an async generator of `Progress`, `Preview` and `Output`.

The adapter runs beside it in the worker, and turns the pictures into bytes there.
"""
