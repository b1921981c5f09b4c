"""The strict cleaner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkernel_basic_api.clean import clean_path


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("a/b", "/a//b/"),
        ("a/b", "a\\b"),
        ("passwd", "../../passwd"),
        ("con_/x", "CON/x".lower()),
        ("LPT1_", "LPT1"),
        ("ab", 'a<>:"|?*~&@;#$^.b'),
        ("ab", "a\u202e\u200b\x00\nb"),
        ("a b/c", " a b / c "),
        ("", " ./.. "),
        ("Größe/絵", "Größe/絵"),
    ],
)
def test_cleaner(expected, text):
    """The cleaner drops, trims and renames as the protocol says."""
    assert expected == clean_path(text)


@given(st.text())
def test_cleaning_is_idempotent(text):
    """What is clean stays as it is, is relative, and climbs nowhere."""
    cleaned = clean_path(text)

    assert cleaned == clean_path(cleaned)
    assert not cleaned.startswith("/")
    assert "." not in cleaned
    assert "\\" not in cleaned
