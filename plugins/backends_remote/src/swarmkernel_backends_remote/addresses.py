"""Which servers may be connected to: what an operator allows, checked against the address that a name stands for now."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import attrs

from swarmkernel_backends_remote.errors import PeerError, PeerLostError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_ADDRESSES: Final = 4
LOOKUP_SECONDS: Final = 20.0

#: Addresses of no server of anybody's choice: this network, link-local ones, groups, and metadata services of clouds.
_NEVER: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "100.100.100.200/32",
            "168.63.129.16/32",
            "169.254.0.0/16",
            "224.0.0.0/3",
            "::/128",
            "fd00:ec2::/32",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        ),
    )
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)


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
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "must be like http://host:7801"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password; there is AuthorizationHeader for those"
    if parts.query or parts.fragment:
        return "must not have a query or a fragment"
    if not parts.netloc.isascii() or not parts.path.isascii():
        return "must be ASCII; write a name of other letters in its form that begins with xn--"
    return None


def check_rule(rule: str) -> None:
    """Raise ValueError unless *rule* is a host name, an address or a network."""
    if _network(rule) is None and not _NAME.fullmatch(rule):
        raise ValueError(f"{rule!r} is no host name, address or network")


async def addresses_of(target: Target, allowed: Sequence[str]) -> list[str]:
    """The IP addresses to connect to, and not to look up again; PeerError if one of them is not allowed."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        raise PeerLostError(f"The host {target.host[:100]} was not found.") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        check(target.host, address, allowed)
    return addresses[:MAX_ADDRESSES]


def check(host: str, address: str, allowed: Sequence[str]) -> None:
    """Raise PeerError unless a host, which stands for an IP address, may be connected to."""
    ip = _plain(address)
    if any(ip in network for network in _NEVER):
        raise PeerError(f"{host[:100]} is at an address that no backend may have.", "address_not_allowed")
    if allowed and not any(_matches(rule, host, ip) for rule in allowed):
        raise PeerError(
            f"{host[:100]} is not among the allowed_hosts of [backends_remote].", "address_not_allowed"
        )


def _plain(address: str) -> Address:
    """The address that another one stands for: an IPv4 one may come wrapped."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _network(rule: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return None


def _matches(rule: str, host: str, ip: Address) -> bool:
    network = _network(rule)
    if network is not None:
        return ip in network
    rule, host = rule.lower().rstrip("."), host.lower().rstrip(".")
    return host.endswith(rule[1:]) if rule.startswith("*.") else host == rule
