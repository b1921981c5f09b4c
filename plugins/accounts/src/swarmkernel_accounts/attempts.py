"""How often somebody may try to log in. Kept in memory, and never more of it than a fixed share."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs

from swarmkernel import RouteError
from swarmkernel_accounts.settings import AccountsSettings

Clock: TypeAlias = Callable[[], float]

PERIOD = 60.0
PASSWORD_CHANGES = 5
#: Of each kind of key; beyond it, those that were not seen for longest are forgotten.
MAX_KEYS = 4000
FREE_FAILURES = 5
WAIT, MAX_WAIT = 60.0, 900.0
#: Failures of a name are forgotten when it has had none for so long.
FORGET = 3600.0
EVERYBODY = "everybody"


class TooManyAttemptsError(RouteError):
    """A limit is reached. The text is the same for each of them, so it tells nothing about names."""

    def __init__(self) -> None:
        super().__init__("Too many attempts. Wait, then try again.", error_id="ratelimit")


@attrs.define
class Windows:
    """Counts uses by key, at most *limit* in a window of a minute that begins with the key's first use."""

    limit: int
    _clock: Clock
    _seen: OrderedDict[str, tuple[float, int]] = attrs.field(factory=OrderedDict, init=False)

    def take(self, key: str) -> None:
        """Count a use, or raise TooManyAttemptsError, which counts none."""
        began, count = self._seen.get(key, (0.0, 0))
        if not count or self._clock() - began > PERIOD:
            began, count = self._clock(), 0
        if count >= self.limit:
            raise TooManyAttemptsError
        _store(self._seen, key, (began, count + 1))

    def give_back(self, key: str) -> None:
        """Undo a use."""
        began, count = self._seen.get(key, (0.0, 0))
        if count:
            self._seen[key] = (began, count - 1)


@attrs.define
class Waits:
    """Makes a name wait after failures: a minute after the fifth, one more after each further, up to 15."""

    _clock: Clock
    _failed: OrderedDict[str, tuple[float, int]] = attrs.field(factory=OrderedDict, init=False)

    def take(self, name: str) -> None:
        """Count a failure beforehand, or raise TooManyAttemptsError while the name waits."""
        last, count = self._failed.get(name, (0.0, 0))
        since = self._clock() - last
        if since > FORGET:
            count = 0
        if count >= FREE_FAILURES and since < min(WAIT * (count - FREE_FAILURES + 1), MAX_WAIT):
            raise TooManyAttemptsError
        _store(self._failed, name, (self._clock(), count + 1))

    def forget(self, name: str) -> None:
        """Begin anew after a success."""
        self._failed.pop(name, None)


@attrs.define
class Attempts:
    """
    All limits of attempts. Clients are known by the address that the kernel found, never by a stranger's word.

    Nobody is kept from a session that they have: only logging in, registering and changing a password are counted.
    """

    _by_client: tuple[Windows, Windows]
    _strays: tuple[Windows, Windows]
    _by_name: Windows
    _failures: Windows
    _changes: Windows
    _waits: Waits

    @classmethod
    def of(cls, settings: AccountsSettings, clock: Clock = time.monotonic) -> "Attempts":
        """The limits that *settings* set."""
        limits = settings.logins_per_address, settings.logins_per_network
        return cls(
            (Windows(limits[0], clock), Windows(limits[1], clock)),
            (Windows(limits[0], clock), Windows(limits[1], clock)),
            Windows(settings.logins_per_name, clock),
            Windows(settings.failed_logins, clock),
            Windows(PASSWORD_CHANGES, clock),
            Waits(clock),
        )

    def begin(self, client: str, name: str) -> None:
        """Count an attempt to log in or to register; TooManyAttemptsError if it is one too many."""
        _take(self._by_client, client)
        self._by_name.take(name)

    def stray(self, client: str) -> None:
        """
        Count an attempt that cannot succeed whatever the secret is.

        It costs the client none of the others, but it leaves a trace in the audit log, which must not be flooded.
        """
        _take(self._strays, client)

    def guess(self, name: str) -> None:
        """Count a failure before the secret is looked at, so that many guesses at the same time are not free."""
        self._failures.take(EVERYBODY)
        try:
            self._waits.take(name)
        except TooManyAttemptsError:
            self._failures.give_back(EVERYBODY)
            raise

    def right(self, name: str) -> None:
        """Take back the failure that `guess` counted, and those before it of the same name."""
        self._failures.give_back(EVERYBODY)
        self._waits.forget(name)

    def change(self, user_id: str) -> None:
        """Count an attempt to change a password."""
        self._changes.take(user_id)


def networks(client: str) -> Iterable[str]:
    """The two keys that a client counts under: its address and its network. Of IPv6, a /64 is one address."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client, client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if isinstance(address, ipaddress.IPv4Address):
        return str(address), str(ipaddress.IPv4Network((int(address), 24), strict=False))
    return tuple(str(ipaddress.IPv6Network((int(address), bits), strict=False)) for bits in (64, 48))


def _take(both: tuple[Windows, Windows], client: str) -> None:
    for windows, key in zip(both, networks(client), strict=True):
        windows.take(key)


def _store(seen: OrderedDict[str, tuple[float, int]], key: str, value: tuple[float, int]) -> None:
    seen[key] = value
    seen.move_to_end(key)
    if len(seen) > MAX_KEYS:
        seen.popitem(last=False)
