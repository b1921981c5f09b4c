"""Secrets at rest are of no use without their key."""

import pytest

from swarmkernel import StoreError, Vault


def test_round_trip(tmp_path):
    """What was sealed opens again, by another server with the same key file, which only its owner may read."""
    file = tmp_path / "data" / "secret.key"
    sealed = Vault("", file).seal("hunter2 ü")

    assert "hunter2 ü" == Vault("", file).open(sealed)
    assert "hunter2" not in sealed
    assert 0o600 == file.stat().st_mode & 0o777
    assert ["secret.key"] == [path.name for path in file.parent.iterdir()]


def test_a_configured_key_needs_no_file(tmp_path):
    """With a key from the settings no file is made, and the same key opens."""
    sealed = Vault("a long secret", tmp_path / "secret.key").seal("x")

    assert "x" == Vault("a long secret", tmp_path / "elsewhere").open(sealed)
    assert [] == list(tmp_path.iterdir())


def test_the_wrong_key(tmp_path):
    """Another key does not open it, and the error names neither secret nor key."""
    sealed = Vault("one", tmp_path / "k").seal("hunter2")

    with pytest.raises(StoreError, match="cannot be read with this key") as caught:
        Vault("two", tmp_path / "k").open(sealed)
    assert "hunter2" not in str(caught.value)
    assert "two" not in repr(Vault("two", tmp_path / "k"))


def test_text_from_before(tmp_path):
    """A text that was never sealed comes back as it is."""
    assert "plain" == Vault("one", tmp_path / "k").open("plain")
