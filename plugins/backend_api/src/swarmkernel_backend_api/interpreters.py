"""Workers in other interpreters than the server's, so that backends with clashing libraries can live in one server."""

import os
import sys
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import attrs

from swarmkernel_backend_api.forms import setting
from swarmkernel_backend_api.types import BackendType

_OWN: Final = "The server's own"


def executable(_instance: Any, attribute: "attrs.Attribute[Any]", value: Mapping[str, str]) -> None:
    """An attrs validator: name -> a program that there is."""
    for name, path in value.items():
        if not (name and os.path.isabs(path) and os.access(path, os.X_OK)):  # noqa: PTH117  # text, as it is run
            raise ValueError(
                f"{attribute.name}.{name} must be the whole path of a Python interpreter, not {path!r}"
            )


def offering(kind: BackendType, interpreters: Mapping[str, str]) -> BackendType:
    """The type, its form with a dropdown ``python`` of the operator's interpreters if there are any."""
    if kind.in_process or not interpreters:
        return kind
    return attrs.evolve(kind, settings=_with_python(kind.settings, tuple(interpreters)))


def _with_python(settings: type, names: tuple[str, ...]) -> type:
    @attrs.frozen
    class WithPython(settings):  # type: ignore[misc]  # one class per type
        bare: ClassVar[type] = settings
        python: str = setting(
            "",
            description="The interpreter that runs this backend, with the libraries installed there.",
            values=("", *names),
            value_names=(_OWN, *names),
        )

    return WithPython


def bare(settings: type) -> type:
    """The class of settings that the backend itself knows."""
    found: type = getattr(settings, "bare", settings)
    return found


def chosen(settings: Any, interpreters: Mapping[str, str]) -> str:
    """The path of the interpreter that a backend's settings name, or of the server's own."""
    return interpreters.get(getattr(settings, "python", ""), sys.executable)
