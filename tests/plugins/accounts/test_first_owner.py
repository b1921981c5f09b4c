"""The token that makes the first owner."""

import re

import pytest

from swarmkernel import MemoryStore
from swarmkernel_accounts import Directory, User
from swarmkernel_accounts.changes import Changes
from swarmkernel_accounts.first_owner import FirstOwner


@pytest.fixture(name="directory")
async def _directory():
    """The built-in roles, and nobody."""
    store = MemoryStore()
    directory = Directory.of(store, Changes.of(store))
    await directory.seed([])
    return directory


def announced(first_owner, capsys):
    """The token that is printed on standard error, or None."""
    first_owner.announce()
    printed = capsys.readouterr()
    assert "" == printed.out
    found = re.search(r"setup_token makes one: (\S+)$", printed.err, re.MULTILINE)
    return found[1] if found else None


def test_the_token(directory, capsys, caplog):
    """The token is printed, 128 bits long, accepted, and not logged."""
    first_owner = FirstOwner(directory)
    token = announced(first_owner, capsys)

    assert re.fullmatch("[0-9a-f]{32}", token)
    assert first_owner.accepts(token)
    assert token not in caplog.text
    assert token not in repr(first_owner)


def test_others_are_refused(directory, capsys):
    """Nothing else is accepted: not another server's token, not none, not before one is printed."""
    first_owner, other = FirstOwner(directory), FirstOwner(directory)
    assert not first_owner.accepts("")
    token, theirs = announced(first_owner, capsys), announced(other, capsys)

    assert token != theirs
    assert [] == [
        t for t in ("", theirs, token.upper() + "x", token[:-1], f"{token} ", "é") if first_owner.accepts(t)
    ]


async def test_not_once_there_is_an_owner(directory, capsys):
    """An owner who was made in another way ends it, one without full control does not."""
    first_owner = FirstOwner(directory)
    token = announced(first_owner, capsys)
    await directory.add_user(User("ann", ("admin",)))
    assert first_owner.accepts(token)
    await directory.add_user(User("bob", ("owner",)))
    assert not first_owner.accepts(token)
    assert not first_owner.is_wanted


async def test_nothing_is_printed_with_an_owner(directory, capsys):
    """A server that has an owner prints nothing."""
    await directory.add_user(User("bob", ("owner",)))

    assert announced(FirstOwner(directory), capsys) is None
