"""The handlers that manage users."""

import time
from collections.abc import Mapping

import attrs

from swarmkernel import LOCAL_USER, Body, Call, Plugins, RouteError, Session, Sessions
from swarmkernel_accounts import EVERYTHING, Changes, Directory, Passwords, Tokens, User
from swarmkernel_admin_api.actors import acting, known_user, refusals, subordinate
from swarmkernel_admin_api.forms import email_address, name_of_new, wanted_settings
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
