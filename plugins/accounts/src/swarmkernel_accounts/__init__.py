"""Users, roles, passwords and login tokens."""

from swarmkernel_accounts.changes import Changes
from swarmkernel_accounts.directory import Directory
from swarmkernel_accounts.names import RESERVED, clean_name
from swarmkernel_accounts.passwords import PasswordError, Passwords
from swarmkernel_accounts.rights import EVERYTHING, Rights
from swarmkernel_accounts.settings import AccountsSettings
from swarmkernel_accounts.tokens import Token, Tokens
from swarmkernel_accounts.values import AccountError, Role, User

__all__ = [
    "EVERYTHING",
    "RESERVED",
    "AccountError",
    "AccountsSettings",
    "Changes",
    "Directory",
    "PasswordError",
    "Passwords",
    "Rights",
    "Role",
    "Token",
    "Tokens",
    "User",
    "clean_name",
]
