"""How permissions are described to clients."""

from collections.abc import Iterable

from swarmkernel import Level, Permission

#: Groups in the order that they are shown in, and what they are about. Those of other plugins come after them.
GROUPS = {
    "Special": "Full control, and what only the owner of the server should do.",
    "Admin": "Managing the server and its users.",
    "Backends Admin": "Managing the backends.",
    "Control": "Controlling what the server has loaded and installed.",
    "Parameters": "Using certain parameters.",
    "User": "What users do for themselves.",
    "ComfyUI": "Using ComfyUI through the server.",
    "Extension Tabs": "Seeing tabs that extensions add.",
}
#: The lowest role that holds a permission, as clients spell it.
LEVELS = {
    Level.OWNER: "NOBODY",
    Level.ADMIN: "ADMINS",
    Level.POWER: "POWERUSERS",
    Level.USER: "USER",
    Level.GUEST: "GUEST",
}


def described(permission: Permission) -> dict[str, object]:
    """Describe one permission."""
    return {
        "name": permission.name,
        "description": permission.description,
        "default": LEVELS[permission.default],
        "group": {"name": permission.group, "description": GROUPS.get(permission.group, "")},
        "safety_level": permission.safety.value,
        "alt_safety_text": None,
    }


def ordered(permissions: Iterable[Permission]) -> list[str]:
    """The ids of *permissions*, those of one group together."""
    ranks = {group: rank for rank, group in enumerate(GROUPS)}
    return [p.id for p in sorted(permissions, key=lambda p: (ranks.get(p.group, len(ranks)), p.group))]
