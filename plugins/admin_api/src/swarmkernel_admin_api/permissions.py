"""
The permissions of those who manage users and roles.

Other packages name some of them too, so they must be the same there, description included.
"""

from swarmkernel import Level, Permission, Safety

MANAGE_USERS = Permission(
    "manage_users",
    "Manage Users",
    group="Admin",
    default=Level.OWNER,
    safety=Safety.POWERFUL,
    description="Add, change and delete users, and act as them.",
)
CONFIGURE_ROLES = Permission(
    "configure_roles",
    "Configure Roles",
    group="Admin",
    default=Level.OWNER,
    safety=Safety.POWERFUL,
    description="Add, change and delete roles.",
)
INTERRUPT_OTHERS = Permission(
    "interrupt_others",
    "Interrupt Others",
    group="Admin",
    default=Level.ADMIN,
    safety=Safety.POWERFUL,
    description="Interrupt another user's work.",
)
VIEW_LOGS = Permission(
    "view_logs",
    "View Server Logs",
    group="Admin",
    default=Level.ADMIN,
    description="Read the server's logs, the audit log among them.",
)
