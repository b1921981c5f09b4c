"""Which servers may be connected to: what an operator allows, checked against the address that a name stands for now."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit

import attrs

from swarmkernel_backends_remote.errors import PeerError, PeerLostError
from swarmkernel_backends_remote.hosts import is_barred, matches, plain
from swarmkernel_backends_remote.settings import RemoteSettings

MAX_ADDRESSES: Final = 4
LOOKUP_SECONDS: Final = 20.0
_NOT_ALLOWED: Final = "address_not_allowed"


@attrs.frozen
class Target:
    """The address of a server: scheme, host, port, and the path that all of its own begin with."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, text: str) -> Target:
        """From what an administrator wrote; PeerError says what is wrong with it."""
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError:
            raise PeerError("The setting Address is no URL.", "invalid_setting") from None
        if problem := _problem(parts):
            raise PeerError(f"The setting Address {problem}.", "invalid_setting")
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, parts.hostname or "", port or default, parts.path.rstrip("/"))

    @property
    def netloc(self) -> str:
        """Host and port, as headers and texts name the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    def url(self, path: str, *, scheme: str | None = None) -> str:
        """The URL of a path of the server."""
        return f"{scheme or self.scheme}://{self.netloc}{self.path}{path}"


def _problem(parts: SplitResult) -> str | None:
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        return "must be like http://host:7801"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password; there is AuthorizationHeader for those"
    if parts.query or parts.fragment:
        return "must not have a query or a fragment"
    if not parts.netloc.isascii() or not parts.path.isascii():
        return "must be ASCII; write a name of other letters in its form that begins with xn--"
    return None


def _nobody() -> bool:
    return False


@attrs.frozen
class Rules:
    """What an operator allows, and whether others than the operator may add backends."""

    settings: RemoteSettings = attrs.Factory(RemoteSettings)
    has_accounts: Callable[[], bool] = _nobody

    async def addresses_of(self, target: Target) -> list[str]:
        """The IP addresses to connect to, and not to look up again; PeerError if one of them is not allowed."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            raise PeerLostError(f"The host {target.host[:100]} was not found.") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            self.check(target.host, address)
        return addresses[:MAX_ADDRESSES]

    def check(self, host: str, address: str) -> None:
        """Raise PeerError unless a host, which stands for an IP address, may be connected to."""
        ip, allowed, shown = plain(address), self.settings.allowed_hosts, host[:100]
        if is_barred(ip):
            raise PeerError(f"{shown} is at an address that no backend may have.", _NOT_ALLOWED)
        if allowed and not any(matches(rule, host, ip) for rule in allowed):
            raise PeerError(
                f"{shown} is not among the allowed_hosts of [backends_remote] in the settings file.",
                _NOT_ALLOWED,
            )
        if not allowed and not ip.is_global and self.has_accounts():
            raise PeerError(
                f"{shown} is at a private address, and with accounts such a backend must be allowed: "
                f'set allowed_hosts = ["{shown}"] under [backends_remote] in the settings file.',
                _NOT_ALLOWED,
            )
