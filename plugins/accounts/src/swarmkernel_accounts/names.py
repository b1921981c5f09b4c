"""The names of users and roles."""

import re

#: Nobody registers one of these; who manages users may add them.
RESERVED = frozenset(
    {
        "shared",
        "local",
        "admin",
        "owner",
        "moderator",
        "user",
        "users",
        "poweruser",
        "guest",
        "guests",
        "registered",
        "login",
        "account",
        "system",
        "root",
        "role",
        "roles",
        "tracked",
        "permission",
        "permissions",
    }
)
_DROPPED = re.compile(r"[^A-Za-z0-9_]")


def clean_name(text: str) -> str:
    """Make *text* a user or role id: ASCII letters, digits and ``_`` stay, in lower case."""
    return _DROPPED.sub("", text).lower()
