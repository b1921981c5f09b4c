"""Models that are not here: those that backends say they have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from itertools import chain

import attrs

from swarmkernel_backend_api import BackendError, BackendSlot
from swarmkernel_models_api.capability import REFRESH_MODELS, RefreshModels
from swarmkernel_models_api.names import Shelf
from swarmkernel_models_api.types import MAIN, Model

log = logging.getLogger(__name__)


def stem(name: str) -> str:
    """A model's name as servers may tell it apart: without the usual ending."""
    return name.removesuffix(".safetensors")


def _stems(models: ModelList) -> Mapping[str, frozenset[str]]:
    return {kind: frozenset(map(stem, names)) for kind, names in models.by_kind.items()}


@attrs.frozen(eq=False)
class ModelList:
    """What a backend says it has: models by kind and name, and by kind the names without `.safetensors`."""

    by_kind: Mapping[str, Mapping[str, Model]]
    stems: Mapping[str, frozenset[str]] = attrs.field(
        init=False, default=attrs.Factory(_stems, takes_self=True)
    )


def has_model(slot: BackendSlot, model: Model) -> bool:
    """Whether a backend can get at a main model: at one that is here unless it has models of its own."""
    return model.is_local if slot.models is None else stem(model.name) in slot.models.stems.get(MAIN, ())


@attrs.define(eq=False)
class RemoteModels:
    """The models of all backends that have their own, put together anew when one of them has others.

    `patience` is how long (seconds) one of them may take to look for new ones.
    """

    backends: Iterable[BackendSlot] = ()
    patience: float = 30.0
    _lists: list[ModelList] = attrs.field(factory=list, init=False)
    _shelves: dict[str, tuple[Shelf, Shelf]] = attrs.field(factory=dict, init=False)

    async def refresh(self) -> None:
        """Have backends that run and have models of their own look for new ones; none is waited for very long."""
        able = [slot for slot in self.backends if slot.serving and REFRESH_MODELS.name in slot.abilities]
        await asyncio.gather(*map(self._refresh, able))

    async def _refresh(self, slot: BackendSlot) -> None:
        try:
            async with asyncio.timeout(self.patience):
                await slot.ask(REFRESH_MODELS, RefreshModels())
        except TimeoutError:
            log.warning("%s did not look for new models within %g seconds", slot.label, self.patience)
        except BackendError as error:
            log.warning("%s did not look for new models: %s", slot.label, error.text)

    def beside(self, local: Shelf, kind: str) -> Shelf:
        """The models of *local* and those that backends have beside them; a name that both have is the local one."""
        lists = list(dict.fromkeys(slot.models for slot in self.backends if slot.models is not None))
        if lists != self._lists:
            self._lists, self._shelves = lists, {}
        if not lists:
            return local
        known = self._shelves.get(kind)
        if known is None or known[0] is not local:
            known = self._shelves[kind] = (
                local,
                _joined(local, [each.by_kind.get(kind, {}) for each in lists]),
            )
        return known[1]


def _joined(local: Shelf, others: Iterable[Mapping[str, Model]]) -> Shelf:
    models, taken = dict(local.models), set(map(stem, local.models))
    for name, model in chain.from_iterable(other.items() for other in others):
        if stem(name) not in taken:
            taken.add(stem(name))
            models[name] = model
    return Shelf.of(models)
