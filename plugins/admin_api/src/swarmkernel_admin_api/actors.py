"""Who acts, and on whom they may."""

from collections.abc import Iterator
from contextlib import contextmanager

from swarmkernel import Call, RouteError
from swarmkernel_accounts import AccountError, Directory, Rights, Role, User


def acting(call: Call) -> Rights:
    """The rights that a change is made with: those of the user whose session this is."""
    return call.get(Directory).acting(call.session.user_id)


def known_user(call: Call, name: str) -> User:
    """The user of that *name*, in any letter case."""
    user = call.get(Directory).users.get(name.strip().lower())
    if user is None:
        raise RouteError(f"There is no user {name[:100]!r}.")
    return user


def subordinate(call: Call, name: str) -> User:
    """The user of that *name*, who must not have more rights than the caller."""
    user = known_user(call, name)
    if not acting(call).covers(call.get(Directory).rights(user.id)):
        raise RouteError(f"You cannot change the user {user.id}, who may do more than you.")
    return user


def known_role(call: Call, name: str) -> tuple[str, Role]:
    """Id and role of that *name*, in any letter case."""
    role_id = name.strip().lower()
    role = call.get(Directory).roles.get(role_id)
    if role is None:
        raise RouteError(f"There is no role {name[:100]!r}.")
    return role_id, role


@contextmanager
def refusals() -> Iterator[None]:
    """Tell the caller why a change cannot be."""
    try:
        yield
    except AccountError as exc:
        raise RouteError(str(exc)) from None
