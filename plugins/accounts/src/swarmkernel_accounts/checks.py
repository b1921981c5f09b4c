"""What no change of users and roles may do; each check raises AccountError with a text for the caller."""

from collections.abc import Mapping

from swarmkernel_accounts.names import clean_name
from swarmkernel_accounts.rights import Rights
from swarmkernel_accounts.snapshot import Snapshot
from swarmkernel_accounts.values import AccountError, Role, User

MAX_ID = 100
MAX_NAME = 100
MAX_DESCRIPTION = 1000
MAX_ENTRIES = 1000
MAX_ENTRY = 200
MAX_DEPTH = 100
MAX_SIMULTANEOUS = 10_000


def check_id(text: str) -> None:
    """Refuse what is no id of a user or role."""
    if not text or text != clean_name(text) or len(text) > MAX_ID:
        raise AccountError(
            f"{text[:MAX_ID]!r} is no id: 1 to {MAX_ID} of the characters a-z, 0-9 and _ would be."
        )
    if text.startswith("__"):
        raise AccountError("Ids that begin with __ are kept for the server itself.")


def check_user(user: User, before: Snapshot) -> None:
    """Refuse roles that do not exist, and an e-mail address that is another user's."""
    old = before.users.get(user.id)
    unknown = set(user.roles) - before.roles.keys() - set(old.roles if old else ())
    if unknown:
        known = ", ".join(sorted(before.roles))
        raise AccountError(f"There is no role {min(unknown)[:MAX_ID]!r}; the roles are: {known}.")
    if user.oauth_email and any(
        user.oauth_email == other.oauth_email for other in before.users.values() if other.id != user.id
    ):
        raise AccountError("Another user has this e-mail address.")


def check_role(role: Role) -> None:
    """Refuse limits out of range, and texts that are too long."""
    _in_range("max_outpath_depth", role.max_outpath_depth, 0, MAX_DEPTH)
    _in_range("max_t2i_simultaneous", role.max_t2i_simultaneous, 1, MAX_SIMULTANEOUS)
    for what, text, limit in (
        ("name", role.name, MAX_NAME),
        ("description", role.description, MAX_DESCRIPTION),
    ):
        if len(text) > limit:
            raise AccountError(f"The {what} is longer than {limit} characters.")
    for what, entries in (
        ("permissions", role.permissions),
        ("model_whitelist", role.model_whitelist),
        ("model_blacklist", role.model_blacklist),
    ):
        if len(entries) > MAX_ENTRIES or any(len(entry) > MAX_ENTRY for entry in entries):
            raise AccountError(
                f"{what} may have {MAX_ENTRIES} entries of {MAX_ENTRY} characters, and no more."
            )


def _in_range(what: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        raise AccountError(f"{what} must be between {low} and {high}.")


def check_owners(before: Snapshot, after: Snapshot) -> None:
    """Refuse to lose the last one who may do everything."""
    if before.owners and not after.owners:
        raise AccountError("This would leave nobody with full control; give it to another user first.")


def check_target(actor: Rights | None, target: Rights, what: str) -> None:
    """Refuse to touch a user or role with more rights than who asks."""
    if actor is not None and not actor.covers(target):
        raise AccountError(f"You cannot change {what}: that takes every right that it has.")


def check_grants(before: Snapshot, after: Snapshot, actor: Rights | None) -> None:
    """Refuse to give any user or role what neither they had nor *actor* has."""
    if actor is None:
        return
    users = {(_roles_in(before, user_id), user.roles) for user_id, user in after.users.items()}
    changes = [(before.united(old), after.united(new)) for old, new in users]
    changes += [
        (Rights.of(_found(before.roles, role_id)), Rights.of([role]))
        for role_id, role in after.roles.items()
        if role is not before.roles.get(role_id)
    ]
    if any(new.exceeds(old, actor) for old, new in changes):
        raise AccountError(
            "This would give somebody a permission, a limit or models that you do not have yourself."
        )


def _roles_in(snapshot: Snapshot, user_id: str) -> tuple[str, ...]:
    user = snapshot.users.get(user_id)
    return user.roles if user else ()


def _found(roles: Mapping[str, Role], role_id: str) -> list[Role]:
    return [roles[role_id]] if role_id in roles else []
