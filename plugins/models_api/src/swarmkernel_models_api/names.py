"""Finding a model by what a client calls it."""

from __future__ import annotations

from collections.abc import Iterable

from swarmkernel_models_api.types import Model

_ENDING = ".safetensors"


def normal(text: str) -> str:
    r"""A name as it is compared: lower case, `/` for `\`, without blanks, brackets and the usual ending."""
    text = text.lower().replace("\\", "/").removesuffix(_ENDING)
    return text.translate(_DROPPED).strip("/")


_DROPPED = str.maketrans("", "", " []")


def exact(models: Iterable[Model], name: str) -> Model | None:
    """The model of that very name; the ending `.safetensors` may be left out."""
    names = (name, name + _ENDING)
    return next((model for model in models if model.name in names), None)


def best_match(models: Iterable[Model], text: str) -> Model | None:
    """The model that *text* means: one of that name, or else the one with the shortest name that contains it.

    Letter case, blanks, brackets and a missing ending do not matter; of two equally good ones, one that can be used.
    """
    wanted = normal(text)
    if not wanted:
        return None
    known = [(normal(model.name), model) for model in models]
    same = [model for name, model in known if name == wanted]
    if same:
        return min(same, key=lambda model: (model.name != text, not model.is_supported, model.name))
    near = [(not model.is_supported, len(name), name, model) for name, model in known if wanted in name]
    return min(near, key=lambda candidate: candidate[:3])[3] if near else None
