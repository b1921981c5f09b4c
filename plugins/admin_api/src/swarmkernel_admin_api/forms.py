"""What clients send, read and checked."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from swarmkernel import RouteError
from swarmkernel_accounts import clean_name

MIN_NAME, MAX_NAME = 3, 70
MAX_EMAIL = 254
EMAIL = re.compile(r"[^\s@]+@[^\s@]+")
ROLES = "roles"


def name_of_new(name: str, kind: str) -> str:
    """Make *name* the id of a new user or role."""
    cleaned = clean_name(name)
    if len(cleaned) < MIN_NAME or len(name) > MAX_NAME:
        raise RouteError(
            f"The name of a {kind} has {MIN_NAME} to {MAX_NAME} characters: letters, digits and _."
        )
    return cleaned


def email_address(text: str) -> str:
    """Read an e-mail address, or an empty text; in lower case, so that nobody has it twice."""
    address = text.strip().lower()
    if address and (len(address) > MAX_EMAIL or not EMAIL.fullmatch(address)):
        raise RouteError("This is not an e-mail address.")
    return address


def comma_list(text: str) -> tuple[str, ...]:
    """Read texts with commas between, or a list, as JSON, that was sent in their place."""
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    return _texts(given if isinstance(given, list) else text.split(","))


def wanted_settings(body: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    """Split the settings in *body* into role ids, None where there are none, and all others."""
    wanted = body.get("settings")
    if not isinstance(wanted, dict):
        raise RouteError("The body needs settings: an object of setting ids and their values.")
    others = {key: value for key, value in wanted.items() if key.lower() != ROLES}
    given = [value for key, value in wanted.items() if key.lower() == ROLES]
    return (_roles(given[-1]) if given else None), others


def _roles(given: Any) -> tuple[str, ...]:
    """Role ids in a list, or in a text as it is shown (with ``||`` between) or written (with commas)."""
    if isinstance(given, str):
        given = re.split(r",|\|\|", given)
    if not isinstance(given, list) or not all(isinstance(role, str) for role in given):
        raise RouteError("roles must be a list of role ids. Nothing was changed.")
    return _texts(role.lower() for role in given)


def _texts(parts: Iterable[object]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (str(part).strip() for part in parts))))
