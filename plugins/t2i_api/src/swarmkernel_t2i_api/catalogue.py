"""What can be asked of this server: the answer of `ListT2IParams`, and scanning for new models."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import attrs

from swarmkernel import Call, UserData
from swarmkernel_models_api import CLASSES, COMPAT_CLASSES, KINDS, Models
from swarmkernel_t2i_api.params.registry import ParamRegistry


async def catalogue(call: Call) -> dict[str, Any]:
    """Parameters, groups and models that the caller may use."""
    registry, models = call.get(ParamRegistry), call.get(Models)
    users: UserData | None = call.find(UserData)  # type: ignore[type-abstract]
    shown = [param for param in registry if param.permission is None or call.allowed(param.permission)]
    return {
        "list": [param.to_wire() for param in shown],
        "groups": [group.to_wire() for group in registry.groups()],
        "models": {
            kind: [[model.name, model.class_id] for model in models.list(kind, call.session)]
            for kind in KINDS
        },
        "model_compat_classes": {key: kind.wire() for key, kind in COMPAT_CLASSES.items()},
        "model_classes": {key: kind.wire() for key, kind in CLASSES.items()},
        "wildcards": [],
        "param_edits": await users.param_edits(call.session.user_id) if users else None,
    }


@attrs.define(eq=False)
class Refresher:
    """Scans the model folders again, at most once in `interval` seconds; who comes meanwhile shares that scan."""

    models: Models
    interval: float = 10.0
    _last: float = attrs.field(default=float("-inf"), init=False)
    _lock: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    async def refresh(self) -> None:
        """Return when the models are as fresh as they may be."""
        async with self._lock:
            if time.monotonic() - self._last >= self.interval:
                await self.models.refresh()
                self._last = time.monotonic()
