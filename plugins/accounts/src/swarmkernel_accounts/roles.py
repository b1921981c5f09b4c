"""The built-in roles, and how they come to their permissions."""

from collections.abc import Collection, Iterable, Mapping

import attrs

from swarmkernel import Level, Permission
from swarmkernel_accounts.rights import FULL_CONTROL
from swarmkernel_accounts.values import Role

OWNER = "owner"
#: From the lowest level to the highest: level, role id, name, description.
_BUILT_IN = (
    (Level.GUEST, "guest", "Guest", "Looks around, but generates nothing."),
    (Level.USER, "user", "User", "Generates, and keeps what is their own."),
    (Level.POWER, "poweruser", "PowerUser", "A user who is trusted with models and backends."),
    (Level.ADMIN, "admin", "Admin", "Runs the server, but manages neither users nor roles."),
    (Level.OWNER, OWNER, "Owner", "May do everything."),
)
BUILT_IN = frozenset(role_id for _, role_id, _, _ in _BUILT_IN)


def seeded(
    roles: Mapping[str, Role], tracked: Collection[str], permissions: Collection[Permission]
) -> dict[str, Role]:
    """
    The built-in roles as they must be when a server starts.

    One that is missing gets all permissions of its level and below, an existing one those which are not *tracked*
    yet; so what an operator takes away stays away, and what a new plugin brings appears. The owner has full control.
    """
    found: dict[str, Role] = {}
    for level, role_id, name, description in _BUILT_IN:
        old = roles.get(role_id)
        role = Role(name=name, description=description) if old is None else old
        new = [p.id for p in permissions if p.default <= level and (old is None or p.id not in tracked)]
        held = (*role.permissions, *sorted(new), *([FULL_CONTROL] if role_id == OWNER else []))
        found[role_id] = attrs.evolve(role, permissions=unique(held), is_auto_generated=True)
    return found


def unique(texts: Iterable[str]) -> tuple[str, ...]:
    """Each of *texts* once, in their order."""
    return tuple(dict.fromkeys(texts))
