"""The hooks of this package."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarmkernel import hookimpl, hookspec
from swarmkernel_backend_api.types import BackendType, NewBackend

if TYPE_CHECKING:
    from swarmkernel import Services

__all__ = ["backend_defaults", "backend_types", "hookimpl"]


@hookspec
def backend_types(services: "Services") -> Iterable[BackendType]:
    """
    Declares backend types; `services` hold the settings of every plugin, and may be left out. The types appear in
    `ListBackendTypes`, and clients add backends of them with `AddNewBackend`. Called once, at start-up. Two packages with a
    type of one id stop the server with a message that names both.
    """
    return ()


@hookspec
def backend_defaults(services: "Services") -> Iterable[NewBackend]:
    """
    Proposes backends for a first start: called once in the life of a data directory, when there has never been a backend.
    What an operator deletes later stays deleted. Called again when somebody runs the installation, who may want them back or
    want none of them, and while the setting `engine` names a type: of the types with common `compat_classes` only that one is
    then added.
    """
    return ()
