"""Passwords: their three forms, the older kind of hash, the bounds of the pool, and equal work for everybody."""

import asyncio
import base64
import hashlib
import threading

import argon2
import pytest

from swarmkernel_accounts.passwords import BusyError, PasswordError, Passwords

PLAIN = "correct horse: battery"


@pytest.fixture(name="passwords")
def _passwords():
    """The pool that servers have by default."""
    return Passwords()


def hashed(name, plain=PLAIN):
    """What the web client sends for a password."""
    return hashlib.sha256(f"swarmclientpw:{name}:{plain}".encode()).hexdigest()


def marked(name, plain=PLAIN):
    """What the web client sends where the browser has no cryptography."""
    return f"__swarmdoprehash:swarmclientpw:{name}:{plain}"


def v1(name, text, prefix="swarmpw_v1:"):
    """A hash as SwarmUI keeps it, of the text that its server hashes."""
    salt = b"salt" * 4
    made = hashlib.pbkdf2_hmac("sha256", f"*SwarmHashedPw:{name}:{text}*".encode(), salt, 10_000)
    return f"{prefix}{base64.b64encode(salt).decode()}:{base64.b64encode(made).decode()}"


FORMS = {"plain": PLAIN, "hashed": hashed("bob"), "marked": marked("bob"), "marked as typed": marked("Bob")}


@pytest.mark.parametrize("sent", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("kept", FORMS.values(), ids=FORMS)
async def test_forms(passwords, kept, sent):
    """A password set in one form is right in each other."""
    stored = await passwords.hash("bob", kept)

    assert (True, None) == attrs_of(await passwords.verify("bob", sent, stored))


def attrs_of(verdict):
    """A verdict as a tuple."""
    return verdict.ok, verdict.rehash


@pytest.mark.parametrize(
    "sent", ["Correct horse: battery", hashed("eve"), marked("eve"), hashed("bob").upper(), "", "x" * 501]
)
async def test_wrong(passwords, sent):
    """Another text, or another user's form of the same password, is wrong."""
    stored = await passwords.hash("bob", PLAIN)

    assert (False, None) == attrs_of(await passwords.verify("bob", sent, stored))


async def test_hash(passwords):
    """A hash is argon2id of at least the floor that OWASP sets, salted, and does not hold the password."""
    one, other = [await passwords.hash("bob", PLAIN) for _ in "ab"]

    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert one != other
    assert PLAIN not in one


@pytest.mark.parametrize("length", [0, 7, 501])
async def test_lengths(passwords, length):
    """A password of other than 8 to 500 characters is refused, with a text that does not hold it."""
    with pytest.raises(PasswordError, match="8 to 500") as caught:
        await passwords.hash("bob", "x" * length)

    assert "xx" not in str(caught.value)


async def test_lengths_that_fit(passwords):
    """Passwords of 8 and of 500 characters, of any script, are taken."""
    for given in ("x" * 8, "x" * 500, "пароль🔑密码"):
        assert (await passwords.verify("bob", given, await passwords.hash("bob", given))).ok


@pytest.mark.parametrize("sent", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("prefix", ["swarmpw_v1:", ""])
async def test_v1_of_the_web_client(passwords, prefix, sent):
    """A hash that SwarmUI made of its web client's form is right for each form, and comes with a new hash."""
    verdict = await passwords.verify("bob", sent, v1("bob", hashed("bob"), prefix))

    assert verdict.ok
    assert verdict.rehash.startswith("$argon2id$")
    for form in FORMS.values():
        assert (True, None) == attrs_of(await passwords.verify("bob", form, verdict.rehash))


async def test_v1_of_a_name_as_typed(passwords):
    """What SwarmUI's client made of a name with capitals goes on to work when it is typed the same way."""
    stored = v1("bob", hashed("Bob"))

    assert (await passwords.verify("bob", hashed("Bob"), stored)).ok
    assert (await passwords.verify("bob", marked("Bob"), stored)).ok


async def test_v1_of_a_program(passwords):
    """A hash that SwarmUI made of a plain password is right for that, and then for the web client's form."""
    verdict = await passwords.verify("bob", PLAIN, v1("bob", PLAIN))

    assert verdict.ok
    assert (await passwords.verify("bob", hashed("bob"), verdict.rehash)).ok


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        "nonsense",
        "swarmpw_v1:",
        "swarmpw_v1::",
        "swarmpw_v1:!!!:???",
        "$argon2id$",
        "$argon2id$v=19$m=19456,t=2,p=1$x",
        v1("eve", PLAIN),
        v1("bob", PLAIN)[:-8],
    ],
)
@pytest.mark.parametrize("sent", [PLAIN, "", "\0"])
async def test_nothing_matches_nonsense(passwords, stored, sent):
    """No password is right where there is none, where it is broken, or where it is another user's."""
    assert (False, None) == attrs_of(await passwords.verify("bob", sent, stored))


async def test_weaker_argon2_is_renewed(passwords):
    """A hash with less work than ours is renewed when its password comes."""
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(hashed("bob"))
    verdict = await passwords.verify("bob", PLAIN, weak)

    assert verdict.ok
    assert "m=19456,t=2,p=1" in verdict.rehash


async def test_equal_work(passwords, monkeypatch):
    """An unknown user, one without password, an older hash and a new one cost the same runs of the same functions."""
    runs = []
    kept = {"new": await passwords.hash("bob", PLAIN), "v1": v1("bob", hashed("bob"))}
    for owner, name in (
        (hashlib, "pbkdf2_hmac"),
        (argon2.PasswordHasher, "hash"),
        (argon2.PasswordHasher, "verify"),
    ):
        monkeypatch.setattr(owner, name, counting(runs, owner, name))
    costs = {}
    for case, stored in {**kept, "none": "", "unknown": None}.items():
        for sent in ("wrong password", hashed("bob", "wrong"), marked("bob", "wrong")):
            runs.clear()
            assert not (await passwords.verify("bob", sent, stored)).ok
            costs[case, sent] = sorted(runs)

    assert [["argon2", "pbkdf2", "pbkdf2"]] == [*map(list, {tuple(cost) for cost in costs.values()})]


def counting(runs, owner, name):
    """The same function, which notes its runs."""
    plain = getattr(owner, name)

    def run(*args, **kwargs):
        runs.append("argon2" if owner is argon2.PasswordHasher else "pbkdf2")
        return plain(*args, **kwargs)

    return run


async def test_room(monkeypatch):
    """As many as there are threads are hashed at a time, as many as the queue holds wait, and more are turned away."""
    gate, at_once = threading.Event(), []
    plain = argon2.PasswordHasher.hash

    def slow(*args):
        at_once.append(1)
        gate.wait(10)
        return plain(*args)

    monkeypatch.setattr(argon2.PasswordHasher, "hash", slow)
    passwords = Passwords(threads=2, queue=3)
    calls = [asyncio.create_task(passwords.hash("bob", PLAIN)) for _ in range(8)]
    while len(at_once) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    refused = [call.exception() for call in calls if call.done()]
    assert [BusyError] * 3 == [type(error) for error in refused]
    assert [(200, "ratelimit")] * 3 == [(error.status, error.error_id) for error in refused]
    assert 2 == len(at_once)
    gate.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert 5 == sum(isinstance(one, str) for one in done)
    assert (await passwords.hash("bob", PLAIN)).startswith("$argon2id$")


async def test_gone_clients_leave_room(monkeypatch):
    """Calls that were given up free their places, those that had not begun and those that had."""
    gate = threading.Event()
    plain = argon2.PasswordHasher.hash
    monkeypatch.setattr(argon2.PasswordHasher, "hash", lambda *args: gate.wait(10) and plain(*args))
    passwords = Passwords(threads=1, queue=1)
    for _ in range(3):
        calls = [asyncio.create_task(passwords.hash("bob", PLAIN)) for _ in range(2)]
        await asyncio.sleep(0.05)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        gate.set()
        await asyncio.sleep(0.2)
        gate.clear()

    gate.set()
    assert (await passwords.hash("bob", PLAIN)).startswith("$argon2id$")


async def test_the_loop_goes_on(passwords):
    """While passwords are hashed, the event loop does other things."""
    hashing = asyncio.create_task(passwords.hash("bob", PLAIN))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1

    assert turns > 10
