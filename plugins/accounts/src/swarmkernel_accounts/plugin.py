"""What this package adds to the kernel."""

from swarmkernel import hookimpl
from swarmkernel_accounts.settings import AccountsSettings


@hookimpl
def swarm_settings() -> type:
    """Declare the table ``[accounts]``."""
    return AccountsSettings
