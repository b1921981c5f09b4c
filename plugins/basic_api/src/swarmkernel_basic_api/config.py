"""The plugin's table in the settings file."""

from collections.abc import Mapping
from typing import Any

import attrs

from swarmkernel_basic_api.settings import SettingError
from swarmkernel_basic_api.user_settings import SETTINGS


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}".lower()] = value
    return found


def _defaults(table: Mapping[str, Any]) -> dict[str, Any]:
    """Check what an operator sets for every user; ids may be dotted or nested tables."""
    read: dict[str, Any] = {}
    for setting_id, value in _flat(table).items():
        setting = SETTINGS.get(setting_id)
        if setting is None:
            raise ValueError(f"default_user: there is no user setting {setting_id!r}")
        try:
            # What a dropdown offers is partly known only once the server runs.
            read[setting_id] = attrs.evolve(setting, open=True).read(value, {})
        except SettingError as exc:
            raise ValueError(f"default_user: {setting_id}: {exc}") from None
    return read


@attrs.frozen
class BasicSettings:
    """
    The table ``[basic_api]``.

    *default_user*: values of user settings, by their ids, for users who have not chosen their own.
    The other values are limits per user, and sizes in bytes.
    """

    default_user: dict[str, Any] = attrs.field(factory=dict, converter=_defaults)
    max_presets: int = 5000
    max_value_bytes: int = 1024 * 1024
    max_word_list_bytes: int = 16 * 1024 * 1024
