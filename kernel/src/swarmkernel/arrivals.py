"""What strangers may cost before anybody knows who they are: connections, and memory for what is arriving."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import attrs

from swarmkernel.errors import BusyError
from swarmkernel.guard import is_loopback, plain_ip


def share_of(address: str) -> str:
    """Whom an IP address stands for when limits are counted: itself, or the /64 network of an IPv6 one."""
    try:
        plain = plain_ip(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((plain, 64), strict=False)) if ":" in plain else plain


@attrs.define(eq=False)
class Quota:
    """
    An amount that all clients together may hold, and how much of it one client on another machine.

    Clients on this machine, and those in *exempt* (trusted proxies, which speak for many), share only the whole.
    """

    total: int
    per_client: int
    exempt: Collection[str] = ()
    used: int = attrs.field(default=0, init=False)
    _held: Counter[str] = attrs.field(factory=Counter, init=False)

    @contextmanager
    def holding(self, address: str) -> Iterator[Held]:
        """What one client holds now; given back at the end."""
        held = self.held(address)
        try:
            yield held
        finally:
            held.give_back()

    def held(self, address: str) -> Held:
        """What one client holds now: nothing yet. Whoever asks gives it back."""
        return Held(self, share_of(address), address in self.exempt or is_loopback(address))

    def _take(self, held: Held, amount: int) -> None:
        over = not held.is_exempt and self._held[held.client] + amount > self.per_client
        if over or self.used + amount > self.total:
            raise BusyError("The server is busy with other requests; try again in a moment.")
        self.used += amount
        self._held[held.client] += amount

    def _give(self, held: Held) -> None:
        self.used -= held.amount
        self._held[held.client] -= held.amount
        if not self._held[held.client]:
            del self._held[held.client]


@attrs.define(eq=False)
class Held:
    """One holder's part of a quota."""

    _quota: Quota
    client: str
    is_exempt: bool
    amount: int = attrs.field(default=0, init=False)

    def take(self, amount: int = 1) -> None:
        """Hold *amount* more, or BusyError."""
        self._quota._take(self, amount)  # noqa: SLF001  # two halves of one thing
        self.amount += amount

    def give_back(self) -> None:
        """Hold nothing any more."""
        self._quota._give(self)  # noqa: SLF001
        self.amount = 0
