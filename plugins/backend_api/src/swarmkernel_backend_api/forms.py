"""A settings class as a form: what the wire shows of it, and values from the wire back into it."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from swarmkernel_backend_api.errors import SettingsError

HIDDEN: Final = "\t<secret>"
_META: Final = "swarmkernel_backend_api.setting"
_KINDS: Final[dict[Any, str]] = {
    str: "text",
    int: "integer",
    float: "decimal",
    bool: "boolean",
    list[str]: "list",
}


@attrs.frozen
class _Shown:
    """How one setting looks in the form."""

    title: str | None = None
    description: str = ""
    placeholder: str = ""
    values: Sequence[str] | None = None
    value_names: Sequence[str] | None = None
    secret: bool = False


def setting(
    default: Any,
    *,
    title: str | None = None,
    description: str = "",
    placeholder: str = "",
    values: Sequence[str] | None = None,
    value_names: Sequence[str] | None = None,
    secret: bool = False,
    validator: Any = None,
) -> Any:
    """A field of a settings class, with what a form shows of it.

    ``title`` is the setting's name on the wire (else the field's own). ``values`` make a text a dropdown, ``value_names`` are
    what it shows for them. A ``secret`` is never sent to a client, is not in the class's ``repr``, and is stored sealed.
    """
    shown = _Shown(title, description, placeholder, values, value_names, secret)
    metadata = {_META: shown}
    common = {"metadata": metadata, "validator": validator, "repr": not secret}
    if isinstance(default, (list, dict)):
        return attrs.field(factory=lambda: type(default)(default), **common)
    return attrs.field(default=default, **common)


@attrs.frozen
class FormField:
    """One setting of a backend type: its wire name, its attribute, and what the form shows."""

    name: str
    attribute: str
    kind: str
    optional: bool
    shown: _Shown
    values: tuple[str, ...] | None

    def entry(self) -> dict[str, Any]:
        """The entry of ``ListBackendTypes``."""
        names = self.shown.value_names
        return {
            "name": self.name,
            "type": self.kind,
            "description": self.shown.description,
            "placeholder": self.shown.placeholder,
            "is_secret": self.shown.secret,
            "values": None if self.values is None else list(self.values),
            "value_names": list(names)
            if names is not None
            else None
            if self.values is None
            else list(self.values),
        }

    def parse(self, value: Any) -> Any:
        """A value from the wire, lenient about text (``"5"``, ``"TRUE"``) and strict about sense."""
        if value is None and self.optional:
            return None
        parsed = _PARSERS[self.kind](value)
        if parsed is None:
            raise self._refusal(_NOUNS[self.kind], value)
        if self.values is not None and parsed not in self.values:
            raise self._refusal(f"one of {', '.join(map(repr, self.values))}", value)
        return parsed

    def _refusal(self, right: str, value: Any) -> SettingsError:
        given = "" if self.shown.secret else f", not {value!r:.80}"
        return SettingsError(f"Setting {self.name!r} must be {right}{given}.", "invalid_setting")


def form(kind: type) -> tuple[FormField, ...]:
    """The form of a settings class.

    Fields may be str, int, float, bool, list[str] or a Literal of strings, each also ``| None``; else ``TypeError``.
    """
    hints = get_type_hints(kind)
    return tuple(_field(kind, a, hints[a.name]) for a in attrs.fields(kind) if a.init)


def _field(kind: type, attribute: "attrs.Attribute[Any]", hint: Any) -> FormField:
    shown = attribute.metadata.get(_META, _Shown())
    optional = get_origin(hint) in {Union, UnionType} and NoneType in get_args(hint)
    if optional:
        (hint,) = (h for h in get_args(hint) if h is not NoneType)
    values = get_args(hint) if get_origin(hint) is Literal else shown.values
    name = "dropdown" if values is not None else _KINDS.get(hint)
    if name is None:
        raise TypeError(f"{kind.__qualname__}.{attribute.name}: a setting cannot be of type {hint}")
    return FormField(
        name=shown.title or attribute.name,
        attribute=attribute.name,
        kind=name,
        optional=optional,
        shown=shown,
        values=None if values is None else tuple(values),
    )


def to_settings(kind: type, raw: Mapping[str, Any], base: Any = None) -> Any:
    """An instance of a settings class from wire values.

    Unknown names are ignored; names left out, and secrets that come back as their marker, keep the value of ``base`` (else the default).
    """
    values = {} if base is None else {f.attribute: getattr(base, f.attribute) for f in form(kind)}
    for field in form(kind):
        if field.name in raw and not (field.shown.secret and raw[field.name] == HIDDEN):
            values[field.attribute] = field.parse(raw[field.name])
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        text = _without(str(error.args[0] if error.args else error), kind, values)
        raise SettingsError(f"Settings refused: {text}", "invalid_setting") from None


def secret_names(kind: type) -> frozenset[str]:
    """The wire names of a settings class's secrets."""
    return frozenset(field.name for field in form(kind) if field.shown.secret)


def to_raw(settings: Any) -> dict[str, Any]:
    """The wire values of a settings instance, secrets in clear."""
    return {f.name: _plain(getattr(settings, f.attribute)) for f in form(type(settings))}


def masked(settings: Any) -> dict[str, Any]:
    """The wire values of a settings instance as a client may see them."""
    secret = secret_names(type(settings))
    return {name: HIDDEN if name in secret and value else value for name, value in to_raw(settings).items()}


def hide(text: str, settings: Any) -> str:
    """A text without the secrets of a settings instance."""
    kind = type(settings)
    return _without(text, kind, {f.attribute: getattr(settings, f.attribute) for f in form(kind)})


def _without(text: str, kind: type, values: Mapping[str, Any]) -> str:
    for field in form(kind):
        if field.shown.secret and values.get(field.attribute):
            for secret in _each(values[field.attribute]):
                text = text.replace(secret, HIDDEN.strip())
    return text


def _each(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value]) if item not in (None, "")]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _decimal(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())


def _texts(value: Any) -> list[str] | None:
    texts = [_text(item) for item in value] if isinstance(value, list | tuple) else [None]
    return None if None in texts else [text for text in texts if text is not None]


_WORDS: Final = {"true": True, "false": False, "1": True, "0": False}
_PARSERS: Final[dict[str, Callable[[Any], Any]]] = {
    "text": _text,
    "dropdown": _text,
    "integer": _integer,
    "decimal": _decimal,
    "boolean": _boolean,
    "list": _texts,
}
_NOUNS: Final = {
    "text": "a text",
    "dropdown": "a text",
    "integer": "an integer",
    "decimal": "a decimal number",
    "boolean": "true or false",
    "list": "a list of texts",
}
