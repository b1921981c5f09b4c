"""How the first owner of a server with accounts proves to be who runs it."""

import asyncio
import hmac
import secrets
import sys

import attrs

from swarmkernel_accounts.directory import Directory


@attrs.define
class FirstOwner:
    """
    A token that the server prints on its console while nobody holds full control.

    Who sends it with a registration becomes the owner. There is no other way in over the network till then: the
    first visitor is a stranger like the others.
    """

    _directory: Directory
    _token: str | None = attrs.field(default=None, init=False, repr=False)
    #: Held by who makes the owner, from the check of the token to the end.
    turn: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    @property
    def is_wanted(self) -> bool:
        """Whether nobody holds full control."""
        return not self._directory.owners()

    def announce(self) -> None:
        """Print a new token on standard error, whatever is logged, if there is no owner."""
        if not self.is_wanted:
            return
        self._token = secrets.token_hex(16)
        print(  # noqa: T201  # the console is the proof
            "swarmkernel: accounts are required, and nobody is an owner yet.\n"
            f"swarmkernel: RegisterBasic with this setup_token makes one: {self._token}\n"
            "swarmkernel: so does the command `swarmkernel users add NAME --role owner`.",
            file=sys.stderr,
            flush=True,
        )

    def accepts(self, given: str) -> bool:
        """Whether *given* is the token, and has not made an owner yet."""
        known = self._token or secrets.token_hex(16)
        return hmac.compare_digest(given.encode(), known.encode()) and self.is_wanted
