"""What an operator can set on an ONNX backend."""

from __future__ import annotations

from typing import Literal

import attrs

from swarmkernel_backend_api import setting


@attrs.frozen
class OnnxSettings:
    """The form of the backend type `onnx`."""

    provider: Literal["auto", "CPU", "CUDA", "TensorRT", "DirectML", "CoreML", "OpenVINO"] = setting(
        "auto",
        description="What computes. Auto takes the first accelerator that works, of CUDA, DirectML, CoreML and"
        " OpenVINO, else the CPU.",
    )
    device_id: int = setting(
        0,
        description="Which accelerator, where there are several; the first is 0.",
        validator=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(64)),
    )
    threads: int = setting(
        0,
        description="Threads for computing on the CPU. 0 is as many as the server gives its workers.",
        validator=attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(1024)),
    )
    optimization: Literal["all", "extended", "basic", "none"] = setting(
        "all", description="How far graphs are rewritten to run faster. Less makes loading quicker."
    )
    arena: bool = setting(
        True,
        description="Keep memory for the next step instead of giving it back. Off needs less memory and is slower.",
    )
    max_batch: int = setting(
        8,
        description="How many pictures share one step at most. More needs more memory.",
        validator=attrs.validators.and_(attrs.validators.ge(1), attrs.validators.le(64)),
    )
