"""Limits of attempts: what they count, by what, in which order, and how much they remember."""

import tracemalloc

import pytest

from swarmkernel_accounts import AccountsSettings
from swarmkernel_accounts.attempts import MAX_KEYS, Attempts, TooManyAttemptsError


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="make")
def _make(clock):
    """Limits that matter to no test, but for those in the keywords."""

    def make(**limits):
        wide = dict.fromkeys(
            ("logins_per_address", "logins_per_network", "logins_per_name", "failed_logins"), 10**9
        )
        return Attempts.of(AccountsSettings(**(wide | limits)), clock)

    return make


def passes(attempt, *args):
    """Whether an attempt is let through."""
    try:
        attempt(*args)
    except TooManyAttemptsError:
        return False
    return True


def count(attempt, *args, tries=100):
    """How many of as many tries are let through."""
    return sum(passes(attempt, *args) for _ in range(tries))


def test_default_limits(clock):
    """By default an address has 5 attempts a minute, a network 20, a name 15, and everybody together fails 50 times."""
    attempts = Attempts.of(AccountsSettings(), clock)
    assert 5 == count(attempts.begin, "1.2.3.4", "bob")
    assert 15 == sum(count(attempts.begin, f"1.2.3.{n}", f"name{n}") for n in range(5, 20))
    assert 10 == sum(count(attempts.begin, f"9.9.{n}.9", "bob") for n in range(30))
    assert 50 == sum(count(attempts.guess, f"guessed{n}", tries=2) for n in range(100))


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("1.2.3.4", "1.2.3.4", True),
        ("1.2.3.4", "1.2.3.5", False),
        ("1.2.3.4", "::ffff:1.2.3.4", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:0::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("unknown", "unknown", True),
        ("unknown", "1.2.3.4", False),
    ],
)
def test_addresses(make, one, other, shared):
    """An IPv4 address counts as it is, however it is written; an IPv6 /64 is one address."""
    attempts = make(logins_per_address=1)
    attempts.begin(one, "bob")

    assert (not shared) == passes(attempts.begin, other, "bob")


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("1.2.3.4", "1.2.3.250", True),
        ("1.2.3.4", "1.2.4.4", False),
        ("2001:db8:0:1::1", "2001:db8:0:ffff::1", True),
        ("2001:db8:0::1", "2001:db8:1::1", False),
    ],
)
def test_networks(make, one, other, shared):
    """An IPv4 /24 and an IPv6 /48 have a limit together."""
    attempts = make(logins_per_network=1)
    attempts.begin(one, "bob")

    assert (not shared) == passes(attempts.begin, other, "bob")


def test_the_error(make):
    """Whatever the limit, the answer is the same, with HTTP 200."""
    attempts = make(logins_per_address=1)
    attempts.begin("1.1.1.1", "bob")
    count(attempts.guess, "bob")
    told = []
    for attempt in (lambda: attempts.begin("1.1.1.1", "ann"), lambda: attempts.guess("bob")):
        with pytest.raises(TooManyAttemptsError) as caught:
            attempt()
        told.append((caught.value.status, caught.value.body()))

    assert told[0] == told[1]
    assert (200, "ratelimit") == (told[0][0], told[0][1]["error_id"])


def test_windows(make, clock):
    """A window begins with the first attempt and ends a minute later, all at once; refused attempts count for nothing."""
    attempts = make(logins_per_address=2)
    assert passes(attempts.begin, "1.2.3.4", "bob")
    clock.now += 50
    assert 1 == count(attempts.begin, "1.2.3.4", "bob")
    clock.now += 10
    assert not passes(attempts.begin, "1.2.3.4", "bob")
    clock.now += 0.1
    assert 2 == count(attempts.begin, "1.2.3.4", "bob")


def test_the_address_comes_first(make):
    """An attempt that the name's limit refuses has been counted for the address, but not the other way round."""
    attempts = make(logins_per_address=3, logins_per_name=1)
    assert 1 == count(attempts.begin, "1.1.1.1", "bob", tries=3)
    assert not passes(attempts.begin, "1.1.1.1", "ann")
    assert passes(attempts.begin, "2.2.2.2", "ann")


def test_a_name_waits(make, clock):
    """After five failures a name waits a minute, then one more each time, fifteen at most."""
    attempts = make()
    assert 5 == count(attempts.guess, "bob")
    for minutes in [*range(1, 16), 15, 15]:
        clock.now += minutes * 60 - 1
        assert not passes(attempts.guess, "bob")
        clock.now += 1
        assert 1 == count(attempts.guess, "bob")
    assert passes(attempts.guess, "ann")


def test_a_success_ends_the_wait(make):
    """A success forgets the failures of its name, and of no other."""
    attempts = make()
    for _ in range(4):
        attempts.guess("bob")
        attempts.guess("ann")
    attempts.guess("bob")
    attempts.right("bob")

    assert (5, 1) == (count(attempts.guess, "bob"), count(attempts.guess, "ann"))


def test_old_failures_are_forgotten(make, clock):
    """A name that had no failure for an hour begins anew."""
    attempts = make()
    assert 5 == count(attempts.guess, "bob")
    clock.now += 3601

    assert 5 == count(attempts.guess, "bob")


def test_only_failures_count_together(make):
    """Successes take nothing from what everybody may fail together; what a name's wait refuses, neither."""
    attempts = make(failed_logins=7)
    for n in range(100):
        attempts.guess(f"user{n}")
        attempts.right(f"user{n}")
    assert 5 == count(attempts.guess, "bob")

    assert 2 == sum(count(attempts.guess, f"stranger{n}") for n in range(10))


def test_guesses_at_the_same_time(make):
    """A hundred guesses that begin before the first one ends are not let through for that."""
    assert 5 == count(make().guess, "bob")
    assert 20 == sum(
        passes(make_guess, f"user{n}") for make_guess in [make(failed_logins=20).guess] for n in range(100)
    )


def test_strays(make):
    """Attempts that cannot succeed have the same limits by address, and cost the others nothing."""
    attempts = make(logins_per_address=2)

    assert (2, 2) == (count(attempts.stray, "1.1.1.1"), count(attempts.begin, "1.1.1.1", "bob"))


def test_password_changes(make, clock):
    """A user may try to change their password five times a minute."""
    attempts = make()
    assert (5, 5) == (count(attempts.change, "bob"), count(attempts.change, "ann"))
    clock.now += 61
    assert 5 == count(attempts.change, "bob")


def test_memory(make, monkeypatch):
    """However many addresses and names come, less than 10 MiB are kept about them. (Measured on a tenth of that.)"""
    monkeypatch.setattr("swarmkernel_accounts.attempts.MAX_KEYS", MAX_KEYS // 10)
    attempts = make()
    tracemalloc.start()
    try:
        for n in range(2000):
            attempts.begin(f"2001:db8:{n:x}:1::1", f"{n:099d}x")
            attempts.guess(f"{n:099d}x")
            attempts.change(f"{n:099d}x")
            attempts.stray(f"2001:db9:{n:x}::1")
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 10 * size < 10 * 1024 * 1024


def test_the_least_recent_is_forgotten(make):
    """What is forgotten for want of room is what was not seen for longest."""
    attempts = make(logins_per_name=2)
    for n in range(MAX_KEYS + 1):
        attempts.begin("1.1.1.1", f"name{n}")
        if n % 1000 == 0:
            passes(attempts.begin, "1.1.1.1", "bob")

    assert not passes(attempts.begin, "1.1.1.1", "bob")
    assert passes(attempts.begin, "1.1.1.1", "name0")
