"""Users, roles, passwords and login tokens."""

from swarmkernel_accounts.names import RESERVED, clean_name
from swarmkernel_accounts.settings import AccountsSettings
from swarmkernel_accounts.values import AccountError, Role, User

__all__ = [
    "RESERVED",
    "AccountError",
    "AccountsSettings",
    "Role",
    "User",
    "clean_name",
]
