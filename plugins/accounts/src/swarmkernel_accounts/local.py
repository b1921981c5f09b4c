"""What counts as this machine."""

from collections.abc import Mapping

from swarmkernel import is_loopback

#: A request with one of these came through a proxy, wherever from.
_FORWARDING = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "cf-connecting-ip"}
)


def is_from_here(headers: Mapping[str, str], peer: str) -> bool:
    """Whether a request, its header names in lower case, comes from this machine without a proxy between."""
    is_forwarded = any(name in _FORWARDING or name.startswith("x-forwarded") for name in headers)
    return is_loopback(peer) and not is_forwarded
