"""What other plugins keep for users, where there are any."""

from collections.abc import Mapping
from typing import Any

from swarmkernel import Call, RouteError, UserAdmin
from swarmkernel_accounts import User


def _keeper(call: Call) -> UserAdmin | None:
    return call.find(UserAdmin)  # type: ignore[type-abstract]


async def describe_settings(call: Call, user: User) -> Mapping[str, Any]:
    """Describe the user's settings, with their roles."""
    keeper = _keeper(call)
    return await keeper.describe_settings(user.id, {"roles": list(user.roles)}) if keeper else {}


async def change_settings(call: Call, user_id: str, wanted: Mapping[str, Any]) -> list[str]:
    """Change settings, all or nothing, and tell which keys were left out."""
    keeper = _keeper(call)
    if keeper is None or not wanted:
        return list(wanted)
    try:
        return await keeper.change_settings(user_id, wanted)
    except ValueError as exc:
        raise RouteError(str(exc), error_id="invalid_setting") from None
