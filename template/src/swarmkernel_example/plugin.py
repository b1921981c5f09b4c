"""What this package adds to SwarmKernel."""

from collections.abc import Iterable

from swarmkernel import Route
from swarmkernel_backend_api import BackendType, hookimpl
from swarmkernel_example.routes import ROUTES
from swarmkernel_example.settings import ExampleSettings


@hookimpl
def swarm_routes() -> Iterable[Route]:
    """The routes."""
    return ROUTES


@hookimpl
def backend_types() -> Iterable[BackendType]:
    """The type; its backend is named by a text, so that the server itself never imports it."""
    return [
        BackendType(
            "example",
            "Example",
            make="swarmkernel_example.backend:ExampleBackend",
            settings=ExampleSettings,
            description="Paints patterns.",
        )
    ]
