"""From where a model may be fetched: names, ports and addresses that a request is allowed to reach."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Final

from swarmkernel_models_api.errors import FetchError

if TYPE_CHECKING:
    import httpx

#: Where the hosts that we fetch from keep their large files: they redirect to names below these.
CDNS: Final = {"huggingface.co": ("huggingface.co", "hf.co")}

LOOKUP_SECONDS: Final = 20.0
MAX_ADDRESSES: Final = 4

#: IPv6 ranges that hold IPv4 addresses of any kind.
_TRANSLATED: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"))


def check_url(url: httpx.URL, source: httpx.URL, *, is_own: bool) -> bool:
    """
    Whether *url*, which a fetch from *source* led to, may also lie on a private network.

    It may if it is of the very origin that the operator named (*is_own*). Everything else has to be https on the
    usual port, at the source's own name or at one of its known CDNs; FetchError otherwise.
    """
    if url.userinfo or not url.host:
        raise FetchError("The address must be a plain one, without a user name or password.")
    if is_own and _origin(url) == _origin(source):
        return True
    if url.scheme != "https" or _origin(url)[2] != 443:
        raise FetchError(f"It leads to {_shown(url)}, which is not https on the usual port.")
    if url.host != source.host and not _is_cdn(url.host, source.host):
        raise FetchError(f"It leads to another host, {_shown(url)}; name the final address as the source.")
    return False


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _is_cdn(host: str, source: str) -> bool:
    return any(host == name or host.endswith(f".{name}") for name in CDNS.get(source, ()))


def _shown(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.host}"[:100]


async def addresses_of(url: httpx.URL, *, may_be_private: bool) -> list[str]:
    """
    The IP addresses of the URL's host, to connect to and not to look up again; FetchError if there are none.

    Unless *may_be_private*, all of them have to be public ones.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            found = await loop.getaddrinfo(url.host, _origin(url)[2], type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        raise FetchError(f"The host {url.host[:100]} was not found.") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not may_be_private and not all(is_public(address) for address in addresses):
        raise FetchError(f"The host {url.host[:100]} is not on the public internet.")
    return addresses[:MAX_ADDRESSES]


def is_public(address: str) -> bool:
    """Whether *address* is one of the public internet, and not another kind of address in disguise."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and (
        ip.ipv4_mapped or ip.is_site_local or any(ip in network for network in _TRANSLATED)
    ):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
