"""The forms in which a model's weights are there, and those that a backend can load."""

from __future__ import annotations

from collections.abc import Set as AbstractSet


def form_misfit(formats: AbstractSet[str], forms: AbstractSet[str]) -> str | None:
    """Why a backend that loads *formats* cannot load a model in *forms*; None if it can. Empty: any, or unknown."""
    if not formats or not forms or formats & forms:
        return None
    if "onnx" in formats:
        return "needs the model as ONNX; `swarmkernel export-onnx` makes it"
    return f"the model has no {' or '.join(sorted(formats))} weights"
