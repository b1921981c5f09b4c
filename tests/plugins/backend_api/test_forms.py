"""Settings classes as forms, and values from the wire."""

from typing import Any, Literal

import attrs
import pytest

from swarmkernel_backend_api import BackendType, SettingsError, setting
from swarmkernel_backend_api.forms import HIDDEN, form, masked, to_raw, to_settings


@attrs.frozen
class Settings:
    address: str = setting("", title="Address", description="Where", placeholder="http://")  # as attrs.field
    count: int = attrs.field(default=1, validator=attrs.validators.ge(0))
    ratio: float = 0.5
    on: bool = True
    mode: Literal["fast", "good"] = "fast"
    size: str = setting("s", values=["s", "l"], value_names=["Small", "Large"])
    tags: list[str] = setting([])  # noqa: RUF009
    limit: int | None = None
    key: str = setting("", secret=True)


def test_the_form_shows_every_setting() -> None:
    """Each field gives one entry with the wire's name and type, and the choices of a dropdown."""
    entries = [field.entry() for field in form(Settings)]
    assert ["Address", "count", "ratio", "on", "mode", "size", "tags", "limit", "key"] == [
        e["name"] for e in entries
    ]
    kinds = ["text", "integer", "decimal", "boolean", "dropdown", "dropdown", "list", "integer", "text"]
    assert kinds == [e["type"] for e in entries]
    assert {
        "name": "Address",
        "type": "text",
        "description": "Where",
        "placeholder": "http://",
        "is_secret": False,
        "values": None,
        "value_names": None,
    } == entries[0]
    assert (["fast", "good"], ["fast", "good"]) == (entries[4]["values"], entries[4]["value_names"])
    assert (["s", "l"], ["Small", "Large"]) == (entries[5]["values"], entries[5]["value_names"])
    assert [True] == [e["is_secret"] for e in entries if e["name"] == "key"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("count", "5", 5),
        ("count", 5.0, 5),
        ("ratio", "1e-1", 0.1),
        ("ratio", 2, 2.0),
        ("on", "FALSE", False),
        ("on", 0, False),
        ("Address", 80, "80"),
        ("tags", ["a", 1], ["a", "1"]),
        ("limit", None, None),
        ("limit", "7", 7),
    ],
)
def test_values_are_read_leniently(name: str, value: Any, expected: Any) -> None:
    """Text for numbers and booleans is understood, as everywhere on this wire."""
    assert expected == to_raw(to_settings(Settings, {name: value}))[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", "x"),
        ("count", True),
        ("count", 5.5),
        ("count", None),
        ("count", -1),
        ("ratio", "nan"),
        ("ratio", 10**400),
        ("on", "yes"),
        ("mode", "best"),
        ("size", "Small"),
        ("Address", {}),
        ("tags", "a"),
        ("tags", [None]),
    ],
)
def test_wrong_values_are_refused_by_name(name: str, value: Any) -> None:
    """A value of the wrong kind, or one that the class's validator refuses, is an error that names the setting."""
    with pytest.raises(SettingsError, match=name):
        to_settings(Settings, {name: value})


def test_left_out_and_unknown_names() -> None:
    """Names left out keep the present value, unknown ones and other letter cases are ignored."""
    base = Settings(address="here", count=3)
    assert base == to_settings(Settings, {"ADDRESS": "there", "nonsense": 1}, base)


def test_secrets_are_hidden_and_come_back() -> None:
    """A secret shows as its marker, the marker keeps it, another value replaces it, and an empty one shows as empty."""
    base = Settings(key="k")
    assert (HIDDEN, "") == (masked(base)["key"], masked(Settings())["key"])
    assert "\t<secret>" == HIDDEN
    assert "k" == to_settings(Settings, masked(base), base).key
    assert "" == to_settings(Settings, {"key": ""}, base).key


def test_a_marker_without_a_secret_behind_it_is_no_secret() -> None:
    """The marker sent for a new backend does not become the secret."""
    assert "" == to_settings(Settings, {"key": HIDDEN}).key


@attrs.frozen
class Needy:
    address: str


@attrs.frozen
class Strange:
    when: dict[str, int] = attrs.field(factory=dict)


@pytest.mark.parametrize("settings", [Needy, Strange])
def test_a_settings_class_must_fit_a_form(settings: type) -> None:
    """A type whose settings have no defaults, or a field that no form can show, is refused when it is declared."""
    with pytest.raises((ValueError, TypeError), match=r"address|when"):
        BackendType("x", "X", make="a:B", settings=settings)


def test_make_must_be_importable() -> None:
    """A class that a worker cannot import is refused when the type is declared, unless it stays in the server."""

    class Inner: ...

    for make in (Inner, "nonsense", lambda _: Inner()):
        with pytest.raises(ValueError, match="'x': make"):
            BackendType("x", "X", make=make, settings=Settings)
    assert Inner is BackendType("x", "X", make=Inner, settings=Settings, in_process=True).make
