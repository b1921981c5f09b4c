"""The routes about users, roles, permissions and the audit log."""

import time
from collections.abc import Mapping

import attrs

from swarmkernel import (
    LOCAL_USER,
    Audit,
    AuditEntry,
    Body,
    Call,
    Permissions,
    Plugins,
    Route,
    RouteError,
    Session,
    Sessions,
)
from swarmkernel_accounts import EVERYTHING, Changes, Directory, Passwords, Role, Tokens, User
from swarmkernel_admin_api.actors import acting, known_role, known_user, refusals, subordinate
from swarmkernel_admin_api.audit_log import read_page
from swarmkernel_admin_api.descriptions import described, ordered
from swarmkernel_admin_api.forms import comma_list, email_address, name_of_new, wanted_settings
from swarmkernel_admin_api.permissions import CONFIGURE_ROLES, INTERRUPT_OTHERS, MANAGE_USERS, VIEW_LOGS
from swarmkernel_admin_api.user_data import change_settings, describe_settings

SUCCESS = {"success": True}


async def admin_list_users(call: Call) -> Mapping[str, object]:
    """List the ids of all `users`."""
    return {"users": sorted(user_id for user_id in call.get(Directory).users if not user_id.startswith("__"))}


async def admin_add_user(call: Call, name: str, password: str, role: str) -> Mapping[str, bool]:
    """
    Add a user with one role.

    Of *name*, letters, digits and `_` are kept, in lower case: 3 to 70 of them. A password has 8 to 500 characters.
    Nobody can give a role that allows more than they may do themselves.
    """
    user_id, directory = name_of_new(name, "user"), call.get(Directory)
    if user_id in directory.users:
        raise RouteError(f"There is a user {user_id} already.")
    if user_id == LOCAL_USER and not acting(call).covers(EVERYTHING):
        raise RouteError(
            f"Only who has full control may add {user_id}: it was everybody before there were accounts."
        )
    with refusals():
        hashed = await call.get(Passwords).hash(user_id, password)
        user = User(user_id, (role.strip().lower(),), hashed)
        await directory.add_user(user, actor=acting(call))
    return SUCCESS


async def admin_set_user_password(call: Call, name: str, password: str) -> Mapping[str, bool]:
    """
    Set a user's password, or clear it with a blank one, so that there is no login by password.

    All login tokens of the user end, and with them their sessions.
    """
    user = subordinate(call, name)
    with refusals():
        hashed = await call.get(Passwords).hash(user.id, password) if password.strip() else None
        async with call.get(Changes).writing():
            await call.get(Directory).change_user(
                user.id,
                lambda old: attrs.evolve(old, password=hashed, password_by_admin=True),
                actor=acting(call),
            )
            await call.get(Tokens).revoke_all(user.id)
    return SUCCESS


async def admin_set_user_oauth_email(call: Call, name: str, email: str) -> Mapping[str, bool]:
    """Set the e-mail address that another login service knows a user by; an empty one clears it."""
    user, address = subordinate(call, name), email_address(email)
    with refusals():
        await call.get(Directory).change_user(
            user.id, lambda old: attrs.evolve(old, oauth_email=address), actor=acting(call)
        )
    return SUCCESS


async def admin_change_user_settings(call: Call, name: str, rawData: Body) -> Mapping[str, object]:  # noqa: N803
    """
    Change settings of a user: all that `settings` names, or none.

    `settings` maps ids to values as in `ChangeUserSettings`; here `roles` may be among them, a list of role ids.
    Unknown ids are left out and listed in `skipped`; a value that does not fit is an error that names the id.
    """
    user, (roles, others) = subordinate(call, name), wanted_settings(rawData)
    # The audit log shows these: all roles and names, and no values.
    call.body.update(roles=roles, changed=sorted(others))
    with refusals():
        async with call.get(Changes).writing():
            if roles is not None:
                await call.get(Directory).change_user(
                    user.id, lambda old: attrs.evolve(old, roles=roles), actor=acting(call)
                )
            skipped = await change_settings(call, user.id, others)
    return {"success": True, "skipped": skipped}


async def admin_delete_user(call: Call, name: str) -> Mapping[str, bool]:
    """
    Delete a user with their login tokens, sessions, settings, presets and API keys. Their pictures stay.

    Nobody can delete themselves, nor the last user who has full control.
    """
    user = subordinate(call, name)
    if user.id in {call.session.user_id, call.session.impersonator}:
        raise RouteError("You cannot delete yourself.")
    with refusals():
        await call.get(Directory).delete_user(user.id, actor=acting(call))
    await call.get(Sessions).end_where(lambda s: user.id in {s.user_id, s.impersonator})
    return SUCCESS


async def admin_get_user_info(call: Call, name: str) -> Mapping[str, object]:
    """
    Tell about a user.

    `user_id`, `password_set_by_admin`, `oauth_email`, `max_t2i` (how many pictures the user may generate at a time),
    and `settings` as `GetUserSettings` describes them, `roles` among them.
    """
    user = known_user(call, name)
    return {
        "user_id": user.id,
        "password_set_by_admin": user.password_by_admin,
        "settings": await describe_settings(call, user),
        "oauth_email": user.oauth_email,
        "max_t2i": call.get(Directory).rights(user.id).max_t2i_simultaneous,
    }


async def admin_interrupt_user(call: Call, name: str) -> Mapping[str, bool]:
    """Interrupt all work of a user, in whichever sessions."""
    user_id, now = name.strip().lower(), time.time()
    if not call.get(Sessions).of_user(user_id):
        user_id = known_user(call, name).id
    # Work can outlive its session, so it is not asked for by session.
    anyone = Session("", user_id, call.address, now, now)
    call.get(Plugins).gather("basic_interrupt", services=call.services, session=anyone, other_sessions=True)
    return SUCCESS


async def admin_list_roles(call: Call) -> Mapping[str, object]:
    """
    List the `roles` by id.

    `name`, `description`, `permissions` (ids; `*` is all of them), `max_outpath_depth`, `max_t2i_simultaneous`,
    `allow_unsafe_outpaths`, `model_whitelist` and `model_blacklist` (beginnings of model names), `is_auto_generated`
    (built in). A user with several roles may do what any of them allows.
    """
    return {"roles": {role_id: attrs.asdict(role) for role_id, role in call.get(Directory).roles.items()}}


async def admin_add_role(call: Call, name: str) -> Mapping[str, bool]:
    """
    Add a role without permissions.

    Its id is what *name* has of letters, digits and `_`, in lower case: 3 to 70 of them.
    """
    role_id = name_of_new(name, "role")
    with refusals():
        await call.get(Directory).add_role(role_id, Role(name=name.strip()), actor=acting(call))
    return SUCCESS


async def admin_edit_role(
    call: Call,
    name: str,
    description: str,
    max_outpath_depth: int,
    max_t2i_simultaneous: int,
    allow_unsafe_outpaths: bool,
    model_whitelist: str,
    model_blacklist: str,
    permissions: str,
) -> Mapping[str, bool]:
    """
    Replace what a role allows. *name* is its id, and lists have commas between.

    Nobody can make a role allow more than they may do themselves.
    """
    role_id, role = known_role(call, name)
    wanted = comma_list(permissions)
    unknown = set(wanted) - call.get(Permissions).by_id.keys() - set(role.permissions)
    if unknown:
        raise RouteError(f"There are no permissions {', '.join(sorted(unknown))[:200]}.")
    allowed, denied = comma_list(model_whitelist), comma_list(model_blacklist)

    def change(old: Role) -> Role:
        return attrs.evolve(
            old,
            description=description,
            max_outpath_depth=max_outpath_depth,
            max_t2i_simultaneous=max_t2i_simultaneous,
            allow_unsafe_outpaths=allow_unsafe_outpaths,
            model_whitelist=allowed,
            model_blacklist=denied,
            permissions=wanted,
        )

    with refusals():
        await call.get(Directory).change_role(role_id, change, actor=acting(call))
    return SUCCESS


async def admin_delete_role(call: Call, name: str) -> Mapping[str, bool]:
    """Delete a role; who had it, has it no more. Built-in roles stay."""
    role_id, _ = known_role(call, name)
    with refusals():
        await call.get(Directory).delete_role(role_id, actor=acting(call))
    return SUCCESS


async def admin_list_permissions(call: Call) -> Mapping[str, object]:
    """
    List the `permissions` by id, and their ids as `ordered` for display.

    `name`, `description`, `default` (the lowest role that holds it unless somebody changed that: `GUEST`, `USER`,
    `POWERUSERS`, `ADMINS` or `NOBODY`, which is the owner), `group` (`name` and `description`), `safety_level`
    (`SAFE`, `UNTESTED`, `RISKY` or `POWERFUL`) and `alt_safety_text`.
    """
    known = call.get(Permissions).by_id
    return {
        "permissions": {permission_id: described(permission) for permission_id, permission in known.items()},
        "ordered": ordered(known.values()),
    }


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
