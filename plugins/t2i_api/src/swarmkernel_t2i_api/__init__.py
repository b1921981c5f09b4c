"""Text to image: parameters, jobs, the queue, outputs, and what a backend must do to make a picture."""

from swarmkernel import hookimpl
from swarmkernel_t2i_api.capability import GENERATE
from swarmkernel_t2i_api.params.types import Group, Param
from swarmkernel_t2i_api.types import (
    EncodedOutput,
    EncodedPreview,
    ImageFormat,
    ImageJob,
    Output,
    Preview,
    Progress,
)

__all__ = [
    "GENERATE",
    "EncodedOutput",
    "EncodedPreview",
    "Group",
    "ImageFormat",
    "ImageJob",
    "Output",
    "Param",
    "Preview",
    "Progress",
    "hookimpl",
]
