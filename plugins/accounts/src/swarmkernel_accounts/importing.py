"""Users that are brought over from another server, with the passwords that they have there."""

import json
from typing import Any

from swarmkernel_accounts.names import clean_name
from swarmkernel_accounts.passwords import is_hash
from swarmkernel_accounts.values import AccountError, User

KEYS = {"name", "roles", "password"}


def read_users(text: str) -> list[User]:
    """
    The users of a JSON list of objects: `name`, `roles` (a list) and `password`, a hash or null.

    AccountError names the entry that is wrong.
    """
    try:
        entries = json.loads(text)
    except ValueError as exc:
        raise AccountError(f"This is not JSON: {exc}") from None
    if not isinstance(entries, list):
        raise AccountError("The file must hold a list of users.")
    users = [_user(number, entry) for number, entry in enumerate(entries, 1)]
    if len({user.id for user in users}) < len(users):
        raise AccountError("The file names a user twice.")
    return users


def _user(number: int, entry: Any) -> User:
    def require(fits: bool, what: str) -> None:
        if not fits:
            raise AccountError(f"User {number} of the file: {what}")

    require(isinstance(entry, dict) and set(entry) == KEYS, f"it must have {', '.join(sorted(KEYS))}")
    name, roles, password = entry["name"], entry["roles"], entry["password"]
    require(
        isinstance(name, str) and name != "" and clean_name(name) == name.lower(),
        "a name has letters, digits and _ only",
    )
    require(
        isinstance(roles, list) and all(isinstance(r, str) for r in roles), "roles must be a list of texts"
    )
    require(
        password is None or (isinstance(password, str) and is_hash(password)),
        "a password must be a hash, such as swarmpw_v1:<salt>:<hash>, or null",
    )
    return User(name.lower(), tuple(map(str.lower, roles)), password, password_by_admin=False)
