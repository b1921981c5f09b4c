"""What users do with their passwords, while other things happen to them at the same time."""

import asyncio
import base64
import hashlib

import attrs
import pytest

from swarmkernel import LOCAL_USER, MemoryStore
from swarmkernel_accounts import AccountError, Directory, Passwords, User
from swarmkernel_accounts.changes import Changes
from swarmkernel_accounts.logins import Logins, NameTakenError

PLAIN, NEW = "correct horse", "battery staple"


@pytest.fixture(name="directory")
async def _directory():
    """The built-in roles, and nobody."""
    store = MemoryStore()
    directory = Directory.of(store, Changes.of(store))
    await directory.seed([])
    return directory


@pytest.fixture(name="logins")
def _logins(directory):
    return Logins(directory, Passwords())


def v1(name, text):
    """A hash as SwarmUI keeps it."""
    made = hashlib.pbkdf2_hmac("sha256", f"*SwarmHashedPw:{name}:{text}*".encode(), b"salt" * 4, 10_000)
    return f"swarmpw_v1:{base64.b64encode(b'salt' * 4).decode()}:{base64.b64encode(made).decode()}"


async def test_register(logins, directory):
    """Who registers has one role and a password of their own."""
    await logins.register("bob", PLAIN, "user")
    bob = directory.users["bob"]

    assert (("user",), False) == (bob.roles, bob.password_by_admin)
    assert bob.created > 0
    assert await logins.proves("bob", PLAIN)
    assert not await logins.proves("bob", NEW)


@pytest.mark.parametrize("name", ["bob", "admin", "local", "1bob", "_bob", "__shared"])
async def test_names_that_cannot_be(logins, directory, name):
    """A name that is taken, reserved, or does not begin with a letter is refused, and nothing changes."""
    await logins.register("bob", PLAIN, "user")
    before = dict(directory.users)
    with pytest.raises(NameTakenError):
        await logins.register(name, NEW, "user")

    assert before == directory.users


async def test_two_register_one_name(logins):
    """Of two who register the same name at the same time, one gets it, and the other hears that it is taken."""
    made = await asyncio.gather(
        *(logins.register("bob", text, "user") for text in (PLAIN, NEW)), return_exceptions=True
    )

    assert [None, NameTakenError] == sorted((m and type(m) for m in made), key=bool)
    assert [True, False] == sorted([await logins.proves("bob", text) for text in (PLAIN, NEW)], reverse=True)


async def test_an_older_hash_is_renewed(logins, directory):
    """The first login with the right password replaces a hash that was brought over, and keeps all else."""
    old = User("bob", ("user", "guest"), v1("bob", PLAIN), oauth_email="b@x.org", created=5.0)
    await directory.add_user(old)
    assert not await logins.proves("bob", NEW)
    assert old == directory.users["bob"]

    assert await logins.proves("bob", PLAIN)
    bob = directory.users["bob"]
    assert bob.password.startswith("$argon2id$")
    assert old == attrs.evolve(bob, password=old.password)
    assert await logins.proves("bob", PLAIN)
    assert bob == directory.users["bob"]


async def test_two_renew_one_hash(logins, directory):
    """Of two logins that renew the same hash at the same time, both succeed."""
    await directory.add_user(User("bob", ("user",), v1("bob", PLAIN)))

    assert [True, True] == await asyncio.gather(*(logins.proves("bob", PLAIN) for _ in "ab"))
    assert await logins.proves("bob", PLAIN)


@pytest.mark.parametrize("stored", [None, v1("bob", PLAIN)], ids=["argon2", "v1"])
async def test_a_password_that_changes_during_the_login(logins, directory, stored):
    """A password that was right when the login began, but has been replaced since, is wrong."""
    await directory.add_user(User("bob", ("user",), stored or await Passwords().hash("bob", PLAIN)))
    fresh = await Passwords().hash("bob", NEW)
    login = asyncio.create_task(logins.proves("bob", PLAIN))
    await asyncio.sleep(0)
    await directory.change_user("bob", lambda u: User(u.id, u.roles, fresh))

    assert not await login
    assert fresh == directory.users["bob"].password


async def test_a_user_who_goes_during_the_login(logins, directory):
    """A user who is deleted while they log in is nobody."""
    await directory.add_user(User("bob", ("user",), v1("bob", PLAIN)))
    login = asyncio.create_task(logins.proves("bob", PLAIN))
    await asyncio.sleep(0)
    await directory.delete_user("bob")

    assert not await login
    assert "bob" not in directory.users


async def test_change(logins, directory):
    """Who knows the old password replaces it, and it is then one's own; who does not, does not."""
    await directory.add_user(User("bob", ("user",), await Passwords().hash("bob", PLAIN)))
    with pytest.raises(AccountError, match="old password"):
        await logins.change("bob", NEW, NEW)
    assert await logins.proves("bob", PLAIN)
    await logins.change("bob", PLAIN, NEW)
    assert await logins.proves("bob", NEW)
    assert not await logins.proves("bob", PLAIN)
    assert not directory.users["bob"].password_by_admin


async def test_the_first_password(logins, directory):
    """A user without a password sets one whatever is said to be the old one."""
    await directory.add_user(User("bob", ("user",)))
    await logins.change("bob", "anything", NEW)

    assert await logins.proves("bob", NEW)


async def test_two_change_one_password(logins, directory):
    """Of two changes at the same time, one is made and the other is refused."""
    await directory.add_user(User("bob", ("user",), await Passwords().hash("bob", PLAIN)))
    made = await asyncio.gather(
        *(logins.change("bob", PLAIN, PLAIN + end) for end in "ab"), return_exceptions=True
    )

    assert [None, AccountError] == sorted((m and type(m) for m in made), key=bool)
    assert [False, True] == sorted([await logins.proves("bob", PLAIN + end) for end in "ab"])


async def test_the_local_user_becomes_an_owner(logins, directory):
    """The user that everybody is without accounts gets a real account with full control; no other name does."""
    await logins.change(LOCAL_USER, "", NEW)
    assert [LOCAL_USER] == directory.owners()
    assert await logins.proves(LOCAL_USER, NEW)
    with pytest.raises(AccountError):
        await logins.change("stranger", "", NEW)
    assert [LOCAL_USER] == list(directory.users)
