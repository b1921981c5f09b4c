"""What this package adds to the kernel."""

from collections.abc import Iterable

from swarmkernel import Route, hookimpl
from swarmkernel_admin_api.routes import ROUTES


@hookimpl
def swarm_routes() -> Iterable[Route]:
    """Declare the routes about users, roles, permissions and the audit log."""
    return ROUTES
