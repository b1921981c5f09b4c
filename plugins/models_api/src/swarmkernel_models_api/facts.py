"""What one look at a model told, in the form in which it is remembered."""

from __future__ import annotations

import attrs

from swarmkernel_models_api.types import Metadata


@attrs.frozen
class Facts:
    """What a model's file or folder holds. Valid as long as its `stamp` is that of the files.

    `width` and `height` (pixels) are what the model itself states, 0 if it does not.
    """

    stamp: str
    title: str
    class_id: str | None = None
    width: int = 0
    height: int = 0
    problem: str | None = None
    metadata: Metadata = attrs.field(factory=Metadata)
    embedded_preview: bool = False
    forms: frozenset[str] = attrs.field(factory=frozenset)
