"""What a user setting is: its type, how a value is read, how it is shown."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import attrs

#: The options of a dropdown that only the running server knows, by name: value and display name.
Choices: TypeAlias = Mapping[str, tuple[tuple[str, str], ...]]
Type: TypeAlias = Literal["text", "integer", "decimal", "boolean", "dropdown", "list"]

MAX_TEXT = 10_000


class SettingError(Exception):
    """A value does not fit its setting; the text says why."""


@attrs.frozen
class Setting:
    """
    One user setting.

    *options* are the values of a dropdown with their display names, *source* names those of `Choices`.
    An *open* dropdown takes values beside its options. A *restricted* setting is not the user's to see or
    change.
    """

    name: str
    type: Type
    default: Any
    description: str
    low: float = 0
    high: float = math.inf
    options: tuple[tuple[str, str], ...] = ()
    source: str = ""
    open: bool = False
    restricted: bool = False

    def choices(self, known: Choices) -> tuple[tuple[str, str], ...]:
        """The dropdown's options as pairs of value and display name."""
        return known.get(self.source, ()) if self.source else self.options

    def read(self, value: object, known: Choices) -> Any:
        """Make *value*, as a client sent it, a value of this setting, or raise `SettingError`."""
        match self.type:
            case "boolean":
                return _boolean(value)
            case "integer":
                return round(self._bounded(value))
            case "decimal":
                return self._bounded(value)
            case "list":
                return _list(value)
            case "text":
                return _text(value)
        return self._option(_text(value), known)

    def _bounded(self, value: object) -> float:
        number = _number(value)
        if not self.low <= number <= self.high:
            raise SettingError(f"{value!r} is not between {self.low:g} and {self.high:g}")
        return number

    def _option(self, text: str, known: Choices) -> str:
        options = {value.casefold(): value for value, _ in self.choices(known)}
        found = options.get(text.casefold())
        if found is None and self.open:
            return text
        if found is None:
            raise SettingError(f"{text[:100]!r} is none of: {', '.join(map(repr, options.values()))}")
        return found

    def on_wire(self, value: Any, known: Choices) -> dict[str, object]:
        """Describe the setting with its *value* as `GetUserSettings.settings` does."""
        options = self.choices(known) if self.type == "dropdown" else None
        return {
            "type": self.type,
            "name": self.name,
            "value": _shown(value),
            "description": self.description,
            "values": None if options is None else [value for value, _ in options],
            "value_names": None if options is None else [name for _, name in options],
            "is_secret": False,
            "default_value": _shown(self.default),
        }


@attrs.frozen
class Group:
    """Settings under one heading; its name is the first part of their ids."""

    name: str
    description: str
    settings: tuple[Setting, ...]


Tree: TypeAlias = tuple[Group | Setting, ...]


def by_id(tree: Tree) -> dict[str, Setting]:
    """The settings of *tree* by their ids: dotted path in lower case."""
    return dict(_walk(tree))


def _walk(tree: Tree) -> Iterator[tuple[str, Setting]]:
    for entry in tree:
        if isinstance(entry, Setting):
            yield entry.name.lower(), entry
        else:
            yield from ((f"{entry.name}.{s.name}".lower(), s) for s in entry.settings)


def describe(
    tree: Tree, values: Mapping[str, Any], known: Choices, restricted: Collection[str] = ()
) -> dict[str, object]:
    """Describe *tree* with the effective *values* (by id); of what is restricted, only the ids in *restricted*."""

    def shown(settings: tuple[Setting, ...], prefix: str = "") -> dict[str, object]:
        found = ((f"{prefix}{s.name}".lower(), s) for s in settings)
        return {
            s.name.lower(): s.on_wire(values[setting_id], known)
            for setting_id, s in found
            if not s.restricted or setting_id in restricted
        }

    found: dict[str, object] = {}
    for entry in tree:
        if isinstance(entry, Setting):
            found |= shown((entry,))
        else:
            found[entry.name.lower()] = {
                "type": "group",
                "name": entry.name,
                "value": shown(entry.settings, f"{entry.name}."),
                "description": entry.description,
                "values": None,
                "value_names": None,
                "is_secret": False,
            }
    return found


def _shown(value: Any) -> Any:
    return " || ".join(value) if isinstance(value, (list, tuple)) else value


def _boolean(value: object) -> bool:
    match str(value).strip().lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
    raise SettingError(f"{str(value)[:100]!r} is not true or false")


def _number(value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise SettingError(f"{str(value)[:100]!r} is not a number")
    return number


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)):
        raise SettingError("not a text")
    if len(text := str(value)) > MAX_TEXT:
        raise SettingError(f"longer than {MAX_TEXT} characters")
    return text


def _list(value: object) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in _text(value).split(",") if part.strip()]
    if not isinstance(value, list) or len(value) > MAX_TEXT:
        raise SettingError("not a list")
    return [_text(part) for part in value]
