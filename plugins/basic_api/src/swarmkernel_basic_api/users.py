"""What a user has chosen: the effective settings, and the service that other plugins read them from."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from swarmkernel import Store, Vault
from swarmkernel_basic_api.api_keys import ApiKeys
from swarmkernel_basic_api.completions import Style, WordLists, found_files
from swarmkernel_basic_api.config import BasicSettings
from swarmkernel_basic_api.languages import Languages
from swarmkernel_basic_api.presets import Presets
from swarmkernel_basic_api.settings import Choices, Setting, SettingError, describe
from swarmkernel_basic_api.themes import THEMES
from swarmkernel_basic_api.user_settings import ALIASES, DEFAULTS, SETTINGS, TREE
from swarmkernel_basic_api.values import UserValues

#: Media types of sounds by the ends of their names.
SOUNDS = {
    ".wav": "audio/wav",
    ".wave": "audio/wav",
    ".mp3": "audio/mpeg",
    ".aac": "audio/aac",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
}


class BadSettingError(ValueError):
    """A value among several does not fit its setting; nothing was changed. The text names the setting."""


@attrs.frozen
class Users:
    """
    The users' own choices; the services `UserData` and `UserAdmin`.

    *defaults* are the operator's values of settings. *sounds* is the folder of sounds.
    """

    store: Store
    values: UserValues
    presets: Presets
    keys: ApiKeys
    languages: Languages
    words: WordLists
    sounds: Path
    defaults: dict[str, Any]

    @classmethod
    def of(cls, store: Store, vault: Vault, data_dir: Path, limits: BasicSettings) -> "Users":
        """Keep choices in *store*, and find languages, word lists and sounds under *data_dir*. Blocks."""
        return cls(
            store,
            UserValues.of(store, limits.max_value_bytes),
            Presets.of(store, limits.max_presets),
            ApiKeys.of(store, vault),
            Languages.load(data_dir / "languages"),
            WordLists(data_dir / "Autocompletions", limits.max_word_list_bytes),
            data_dir / "Audio",
            dict(limits.default_user),
        )

    async def settings(self, user_id: str) -> Mapping[str, Any]:
        """Effective settings by id: built-in, then the operator's, then the user's own."""
        return {**DEFAULTS, **self.defaults, **(await self.values.get(user_id, "settings") or {})}

    async def preset(self, user_id: str, title: str) -> Mapping[str, str] | None:
        """Parameter values of the preset with that *title* in any letter case, or None."""
        found = await self.presets.find(user_id, title)
        return found.param_map if found else None

    async def param_edits(self, user_id: str) -> Any | None:
        """The user's changes to how parameters are shown, as the client stored them, or None."""
        return await self.values.get(user_id, "param_edits")

    async def describe_settings(self, user_id: str, restricted: Mapping[str, Any]) -> dict[str, object]:
        """
        Describe the settings with the user's values as `GetUserSettings.settings` does.

        Restricted settings are left out, but for those whose values are given in *restricted*.
        """
        values = {**await self.settings(user_id), **restricted}
        return describe(TREE, values, await asyncio.to_thread(self._choices), restricted)

    async def change_settings(self, user_id: str, wanted: Mapping[str, Any]) -> list[str]:
        """
        Set what *wanted* names, all or nothing, and tell which keys were left out.

        Left out are unknown and restricted settings, groups, and null for a text.
        Raises `BadSettingError` for a value that does not fit.
        """
        known = await asyncio.to_thread(self._choices)
        changes, skipped = {}, []
        for key, value in wanted.items():
            setting_id = ALIASES.get(key.lower(), key.lower())
            setting = SETTINGS.get(setting_id)
            is_textual = setting is not None and setting.type in {"text", "dropdown"}
            if setting is None or setting.restricted or (value is None and is_textual):
                skipped.append(key)
                continue
            changes[setting_id] = _value(key, setting, value, known)
        if changes:
            await self.values.update(user_id, "settings", lambda old: {**old, **changes})
        return skipped

    async def read_settings(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Check *wanted*, by ids of settings, without changing anything; `BadSettingError` as for a change."""
        known = await asyncio.to_thread(self._choices)
        return {key: _value(key, SETTINGS[key], value, known) for key, value in wanted.items()}

    def change_defaults(self, values: Mapping[str, Any]) -> None:
        """Set values, by ids of settings, for users who have not chosen their own, until the server ends."""
        self.defaults.update(values)

    async def forget(self, user_id: str) -> None:
        """Delete everything that is kept for a user."""
        async with self.store.transaction():
            await self.values.forget(user_id)
            await self.presets.forget(user_id)
            await self.keys.forget(user_id)

    async def completions(self, user_id: str) -> list[str] | None:
        """The words that the user's prompts are completed from, or None."""
        settings = await self.settings(user_id)
        return await asyncio.to_thread(self.words.lines, settings["autocomplete.source"], Style.of(settings))

    def sound(self, name: str) -> Path | None:
        """The file of a sound that can be chosen, or None. Blocks."""
        return self.sounds / name if name in self._sounds() else None

    def _sounds(self) -> list[str]:
        return sorted(found_files(self.sounds, tuple(SOUNDS)))

    def _choices(self) -> Choices:
        """List what dropdowns offer. Blocks."""
        return {
            "themes": tuple((theme.id, theme.name) for theme in THEMES),
            "languages": tuple((language.code, language.local_name) for language in self.languages),
            "sounds": tuple((name, name or "None") for name in ("", *self._sounds())),
            "word_lists": tuple((name, name or "None") for name in ("", *self.words.names())),
        }


def _value(key: str, setting: Setting, value: object, known: Choices) -> Any:
    try:
        return setting.read(value, known)
    except SettingError as exc:
        raise BadSettingError(f"{key}: {exc}. Nothing was changed.") from None
