"""What an operator can set on a torch backend."""

from __future__ import annotations

from typing import Literal

import attrs

from swarmkernel_backend_api import setting


@attrs.frozen
class TorchSettings:
    """The form of the backend type `torch`."""

    device: str = setting(
        "auto",
        description="Where to compute: auto, cpu, cuda, cuda:1, mps. Auto takes the first accelerator there is.",
        placeholder="auto",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = setting(
        "auto",
        description="Number format of the weights. Auto is float16 on an accelerator and float32 on a CPU.",
    )
    max_batch: int = setting(
        8,
        description="How many pictures share one step at most. More needs more memory.",
        validator=attrs.validators.and_(attrs.validators.ge(1), attrs.validators.le(64)),
    )
    attention: Literal["auto", "sdpa", "sliced"] = setting(
        "auto", description="How attention is computed. Sliced needs less memory and is slower."
    )
    offload: Literal["none", "model"] = setting(
        "none",
        description="Model keeps the text encoders and the VAE in system memory while they are not in use.",
    )
