"""The handlers that manage roles."""

from collections.abc import Mapping

import attrs

from swarmkernel import Call, Permissions, RouteError
from swarmkernel_accounts import Directory, Role
from swarmkernel_admin_api.actors import acting, known_role, refusals
from swarmkernel_admin_api.descriptions import described, ordered
from swarmkernel_admin_api.forms import comma_list, name_of_new

SUCCESS = {"success": True}


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
