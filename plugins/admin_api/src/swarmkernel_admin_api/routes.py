"""The routes about users, roles, permissions and the audit log."""

from collections.abc import Mapping

import attrs

from swarmkernel import Audit, AuditEntry, Call, Route, RouteError
from swarmkernel_admin_api.audit_log import read_page
from swarmkernel_admin_api.permissions import CONFIGURE_ROLES, INTERRUPT_OTHERS, MANAGE_USERS, VIEW_LOGS
from swarmkernel_admin_api.role_routes import (
    admin_add_role,
    admin_delete_role,
    admin_edit_role,
    admin_list_permissions,
    admin_list_roles,
)
from swarmkernel_admin_api.user_routes import (
    admin_add_user,
    admin_change_user_settings,
    admin_delete_user,
    admin_get_user_info,
    admin_interrupt_user,
    admin_list_users,
    admin_set_user_oauth_email,
    admin_set_user_password,
)


async def list_audit_log(
    call: Call, limit: int = 100, before: int = 0, user: str = "", action: str = ""
) -> Mapping[str, object]:
    """
    List `entries` of the audit log, newest first: at most *limit* (1 to 1000) with a number less than *before*.

    *user* and *action* choose those of one user, acting as others included, and those of one action. An entry has
    `number`, `time` (Unix seconds), `user`, `impersonator` (who really acted, or null), `address`, `action`,
    `subject` (on what) and `result` (`ok` or the id of an error). A call looks at 2000 entries at most: go on with
    `next` as *before*, until it is 0. `intact` is false if one of those is missing or not as it was written.
    """
    if not 1 <= limit <= 1000 or before < 0:
        raise RouteError("The limit must be 1 to 1000, and before the number of an entry, or 0.")

    def wanted(entry: AuditEntry) -> bool:
        return user in {"", entry.user_id, entry.impersonator} and action in {"", entry.action}

    page = await read_page(call.get(Audit), before, limit, wanted)
    return {"entries": [_on_wire(entry) for entry in page.found], "intact": page.intact, "next": page.next}


def _on_wire(entry: AuditEntry) -> dict[str, object]:
    told = attrs.asdict(entry)
    del told["digest"]
    return {"user": told.pop("user_id"), **told}


NAME = ("name",)
ROLE = (
    *NAME,
    "permissions",
    "max_outpath_depth",
    "max_t2i_simultaneous",
    "allow_unsafe_outpaths",
    "model_whitelist",
    "model_blacklist",
)

ROUTES = (
    Route("AdminListUsers", admin_list_users, permission=MANAGE_USERS),
    Route(
        "AdminAddUser", admin_add_user, permission=MANAGE_USERS, touches_session=True, audit=("name", "role")
    ),
    Route(
        "AdminSetUserPassword",
        admin_set_user_password,
        permission=MANAGE_USERS,
        touches_session=True,
        audit=NAME,
    ),
    Route(
        "AdminSetUserOAuthEmail",
        admin_set_user_oauth_email,
        permission=MANAGE_USERS,
        touches_session=True,
        audit=("name", "email"),
    ),
    Route(
        "AdminChangeUserSettings",
        admin_change_user_settings,
        permission=MANAGE_USERS,
        touches_session=True,
        audit=("name", "roles", "changed"),
    ),
    Route("AdminDeleteUser", admin_delete_user, permission=MANAGE_USERS, touches_session=True, audit=NAME),
    Route("AdminGetUserInfo", admin_get_user_info, permission=MANAGE_USERS),
    Route(
        "AdminInterruptUser",
        admin_interrupt_user,
        permission=INTERRUPT_OTHERS,
        touches_session=True,
        audit=NAME,
    ),
    Route("AdminListRoles", admin_list_roles, permission=CONFIGURE_ROLES),
    Route("AdminAddRole", admin_add_role, permission=CONFIGURE_ROLES, touches_session=True, audit=NAME),
    Route("AdminEditRole", admin_edit_role, permission=CONFIGURE_ROLES, touches_session=True, audit=ROLE),
    Route("AdminDeleteRole", admin_delete_role, permission=CONFIGURE_ROLES, touches_session=True, audit=NAME),
    Route("AdminListPermissions", admin_list_permissions, permission=CONFIGURE_ROLES),
    Route("ListAuditLog", list_audit_log, permission=VIEW_LOGS),
)
