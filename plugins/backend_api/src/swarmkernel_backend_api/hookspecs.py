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
    """Declare backend types. Leave out ``services``, which hold the settings of every plugin, if you need none of them.

    They appear in ``ListBackendTypes`` and can be added by ``AddNewBackend``. Called once, at start-up. Two packages with
    a type of one id stop the server with a message that names both.

    Example::

        @hookimpl
        def backend_types():
            return [BackendType("solid", "Solid colour", make="my_package.backend:SolidBackend", settings=Settings)]
    """
    return ()


@hookspec
def backend_defaults(services: "Services") -> Iterable[NewBackend]:
    """Propose backends for a first start.

    Called when there has never been a backend in a data directory; what is returned is added as if by ``AddNewBackend``.
    Deleting those backends later is for good. Called again when somebody runs the installation, who may want them back or
    want none of them.

    Example::

        @hookimpl
        def backend_defaults(services):
            return [NewBackend("solid", title="Blue", settings={"colour": "#0000ff"})]
    """
    return ()
