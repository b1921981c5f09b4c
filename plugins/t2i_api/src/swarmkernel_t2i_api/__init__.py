"""Text to image: parameters, jobs, the queue, outputs, and what a backend must do to make a picture."""

from swarmkernel import hookimpl
from swarmkernel_t2i_api.capability import GENERATE
from swarmkernel_t2i_api.jobs.events import (
    Accepted,
    Done,
    Event,
    Events,
    Failed,
    Forwarded,
    Interrupted,
    LoadingModel,
    PictureMade,
    Previewed,
    Started,
    Stepped,
    Waiting,
)
from swarmkernel_t2i_api.latents import LatentSampler
from swarmkernel_t2i_api.params.types import Group, Param
from swarmkernel_t2i_api.sampling import BatchSampler
from swarmkernel_t2i_api.stepping import Sampler, SteppingBackend, files_stamp
from swarmkernel_t2i_api.types import (
    EncodedOutput,
    EncodedPreview,
    ImageFormat,
    ImageJob,
    LoraUse,
    Output,
    Preview,
    Progress,
    RawFrame,
)

__all__ = [
    "GENERATE",
    "Accepted",
    "BatchSampler",
    "Done",
    "EncodedOutput",
    "EncodedPreview",
    "Event",
    "Events",
    "Failed",
    "Forwarded",
    "Group",
    "ImageFormat",
    "ImageJob",
    "Interrupted",
    "LatentSampler",
    "LoadingModel",
    "LoraUse",
    "Output",
    "Param",
    "PictureMade",
    "Preview",
    "Previewed",
    "Progress",
    "RawFrame",
    "Sampler",
    "Started",
    "Stepped",
    "SteppingBackend",
    "Waiting",
    "files_stamp",
    "hookimpl",
]
