"""What operators write about hosts, and what IP addresses mean."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Addresses of no server of anybody's choice: this network, link-local ones, groups, and metadata services of clouds.
_NEVER: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "100.100.100.200/32",
            "168.63.129.16/32",
            "169.254.0.0/16",
            "192.0.0.192/32",
            "224.0.0.0/3",
            "::/128",
            "2001::/32",
            "fd00:c1::/32",
            "fd00:ec2::/32",
            "fd20:ce::/32",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        ),
    )
)
#: Networks whose addresses end in the IPv4 one that they stand for: of translators, and of forms that are out of use.
_WRAPPED: Final = tuple(
    map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96"))
)
_LOW: Final = 0xFFFFFFFF
#: What the upper half of the interface's part of an ISATAP address is.
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)


def check_rule(rule: str) -> None:
    """Raise ValueError unless *rule* is a host name, an address or a network."""
    if _network(rule) is None and not _NAME.fullmatch(rule):
        raise ValueError(f"{rule!r} is no host name, address or network")


def is_barred(ip: Address) -> bool:
    """Whether no backend may be at an address."""
    return any(ip in network for network in _NEVER)


def plain(address: str) -> Address:
    """The address that another one stands for: an IPv4 one may come wrapped."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if int(ip) > 1 and (any(ip in network for network in _WRAPPED) or int(ip) >> 32 & _LOW in _ISATAP):
        return ipaddress.IPv4Address(int(ip) & _LOW)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _network(rule: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return None


def matches(rule: str, host: str, ip: Address) -> bool:
    """Whether a rule allows a host at an address."""
    network = _network(rule)
    if network is not None:
        return ip in network
    rule, host = rule.lower().rstrip("."), host.lower().rstrip(".")
    return host.endswith(rule[1:]) if rule.startswith("*.") else host == rule
