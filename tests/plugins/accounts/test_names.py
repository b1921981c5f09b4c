"""The names of users and roles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkernel_accounts import RESERVED, clean_name


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Bob", "bob"),
        ("  Mc. Quack_99! ", "mcquack_99"),
        ("Ärger\u200b", "rger"),
        ("İstanbul", "stanbul"),  # whose lower case would be two characters
        ("../etc/passwd", "etcpasswd"),
        ("\u212aelvin", "elvin"),  # the Kelvin sign, which lower() makes a k
        ("", ""),
    ],
)
def test_clean_name(typed, name):
    """ASCII letters, digits and _ stay, in lower case; all else is dropped."""
    assert name == clean_name(typed)


@given(st.text())
def test_clean_names_are_stable(text):
    """A clean name is made of 37 characters, and cleaning it changes nothing."""
    name = clean_name(text)

    assert set("abcdefghijklmnopqrstuvwxyz0123456789_") >= set(name)
    assert name == clean_name(name)


def test_reserved_names():
    """Reserved are the server's own names and those of its roles, as they would be registered."""
    assert {"local", "owner", "admin", "poweruser", "user", "guest", "shared"} <= RESERVED
    assert 20 == len(RESERVED)
    assert set(map(clean_name, RESERVED)) == RESERVED
