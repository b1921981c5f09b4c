"""Where to compute, in which number format, and giving memory back."""

from __future__ import annotations

import gc

import torch

from swarmkernel_backend_api import BackendError


def pick_device(wanted: str) -> torch.device:
    """The device of that name, or for ``auto`` the first accelerator; BackendError if it is not there."""
    if wanted in {"", "auto"}:
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(wanted)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as exc:
        raise BackendError(f"The device {wanted!r} is not available here: {exc}", "no_device") from exc
    return device


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; for ``auto`` float16 on an accelerator and float32 on a CPU."""
    if wanted == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[wanted]


def release_memory(device: torch.device) -> None:
    """Collect garbage and give the device's cached memory back."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
