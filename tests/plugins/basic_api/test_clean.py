"""The strict cleaner, and user ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkernel_basic_api.clean import clean_path, clean_user_id


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


@given(st.text())
def test_user_id_holds_no_separator(text):
    """A user id is never empty and never holds the separator of keys, whatever it is made from."""
    user_id = clean_user_id(text)

    assert user_id
    assert "/" not in user_id


def test_user_ids_ignore_letter_case():
    """Two spellings of one name are one user."""
    assert clean_user_id("Bob") == clean_user_id("b/OB")
    assert "_" == clean_user_id("../..")
