"""Finding a model by what a client calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from swarmkernel_models_api.types import Model

_ENDING: Final = ".safetensors"
_DROPPED: Final = str.maketrans("", "", " []")


def normal(text: str) -> str:
    r"""A name as it is compared: lower case, `/` for `\`, without blanks, brackets and the usual ending."""
    return text.lower().replace("\\", "/").removesuffix(_ENDING).translate(_DROPPED).strip("/")


@attrs.frozen
class Shelf:
    """The models of one kind by name, in the order in which they are listed, and their names as they are compared."""

    models: dict[str, Model]
    normal: Mapping[str, str]

    @classmethod
    def of(cls, models: dict[str, Model]) -> Shelf:
        """Sort *models* by name."""
        ordered = dict(sorted(models.items(), key=lambda item: (item[0].lower(), item[0])))
        return cls(ordered, {name: normal(name) for name in ordered})

    def get(self, name: str) -> Model | None:
        """The model of that very name; `.safetensors` may be left out, or added to the name of a folder."""
        stem = name.removesuffix(_ENDING)
        return self.models.get(name) or self.models.get(stem + _ENDING) or self.models.get(stem)

    def find(self, text: str, allowed: Callable[[Model], bool]) -> Model | None:
        """The model that *text* means: one of that name, or else the one with the shortest name that contains it.

        Letter case, blanks, brackets and a missing ending do not matter; a model that can be used comes before one
        that cannot.
        """
        wanted = normal(text)
        if not wanted:
            return None
        near = (name for name, known in self.normal.items() if wanted in known)
        candidates = [model for name in near if allowed(model := self.models[name])]
        return min(candidates, key=lambda model: self._distance(model, text, wanted), default=None)

    def _distance(self, model: Model, text: str, wanted: str) -> tuple[bool, bool, bool, int, str]:
        known = self.normal[model.name]
        return model.name != text, known != wanted, not model.is_supported, len(known), model.name
