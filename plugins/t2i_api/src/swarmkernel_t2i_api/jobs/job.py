"""One picture to make, from the request to its end."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from typing import Any

import attrs

from swarmkernel_t2i_api.params.request import ImageRequest

#: Feature flags that only tell clients what to show; they never rule out a backend.
UI_FLAGS = frozenset({"comfyui", "sd3", "flux-dev", "text2video", "cascade", "sdxl", "text2audio"})


@attrs.frozen(order=True)
class Addon:
    """A LoRA or VAE; one that is not `local` only backends elsewhere have."""

    kind: str
    name: str
    local: bool = True


@attrs.frozen
class Demand:
    """What a job needs of a backend. Jobs of one demand are interchangeable to the queue.

    `model` is None if the server has none. `model_named` is False if the server chose it; a backend that cannot
    load models may then do the job as well. `backend_type` and `backend_id` are the user's own restriction.
    `forms` are those in which the model and its VAE are there; one that is not `local` only backends elsewhere have.
    `addons` are the LoRAs and the VAE. `choices` are values of dropdowns, by parameter id, that not every backend takes.
    """

    model: str | None = None
    compat_class: str | None = None
    model_named: bool = True
    backend_type: str | None = None
    backend_id: str | None = None
    features: frozenset[str] = frozenset()
    forms: frozenset[str] = frozenset()
    local: bool = True
    addons: frozenset[Addon] = frozenset()
    choices: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, request: ImageRequest) -> Demand:
        """What the jobs of a request need."""
        model = request.model
        return cls(
            model=model.name if model else None,
            compat_class=model.compat_class if model else None,
            model_named=request.model_named,
            backend_type=request.text("internalbackendtype").lower() or None,
            backend_id=request.text("exactbackendid") or None,
            features=request.features - UI_FLAGS,
            forms=_forms(request),
            local=model is None or model.is_local,
            addons=frozenset(_addons(request)),
            choices=request.choices,
        )


def _addons(request: ImageRequest) -> Iterator[Addon]:
    used = [lora for lora, _ in request.loras]
    for model in [*used, request.vae] if request.vae else used:
        yield Addon(model.kind, model.name, model.is_local)


def _forms(request: ImageRequest) -> frozenset[str]:
    """The forms in which both the model and the VAE of a request are there, or else the model."""
    model = request.model.forms if request.model else frozenset()
    return model & request.vae.forms if request.vae and model & request.vae.forms else model


class JobState(enum.Enum):
    """Where a job is in its life. It ends once."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    ENDED = enum.auto()


@attrs.frozen
class Picture:
    """What a job gave: `url` is a path of this server or a data URL, `metadata` its text."""

    url: str
    metadata: str | None


@attrs.define(eq=False)
class Job:
    """One picture of a request: item `item` of batch `batch`, which clients know as `index`.

    `queued_at` is monotonic seconds. `attempts` counts the backends that have begun it. `task` makes it, as long
    as it can be stopped; `stopped_by_user` is None until somebody does, then says who it was.
    """

    request: ImageRequest
    demand: Demand
    batch: int
    item: int
    index: int
    queued_at: float
    sequence: int = 0
    state: JobState = JobState.WAITING
    attempts: int = 0
    stopped_by_user: bool | None = None
    task: asyncio.Task[Any] | None = attrs.field(default=None, repr=False)

    @property
    def user_id(self) -> str:
        """Whose job it is."""
        return self.request.user_id

    @property
    def cost(self) -> int:
        """The work in it: pixels x steps."""
        return self.request.cost

    @property
    def base_index(self) -> int:
        """The index of the first picture of its batch."""
        return self.index - self.item
