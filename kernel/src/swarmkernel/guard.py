"""What every request and upgrade must pass before it reaches a route: Host, Origin, headers, shared secret."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs

from swarmkernel.errors import BadRequestError, ForbiddenError, KernelError
from swarmkernel.settings import ServerSettings

log = logging.getLogger(__name__)

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  # which are never a name to call a server by
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = SAFE_METHODS | {"POST", "PUT", "DELETE", "PATCH"}
#: A request with one of these, or with any of `X-Forwarded-...`, came through a proxy, wherever from.
FORWARDING = frozenset(
    {
        "cf-connecting-ip",
        "client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-original-forwarded-for",
        "x-real-ip",
    }
)
MAX_HEADERS = 100
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")


class UnauthorizedError(KernelError):
    """The shared secret is missing or wrong."""

    status = 401
    error_id = "unauthorized"


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Request headers with lower-case names; of repeated ones, values joined by a comma, cookies by a semicolon."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        glue = "; " if name == "cookie" else ", "
        found[name] = f"{found[name]}{glue}{value}" if name in found else value
    return found


def split_host(value: str) -> tuple[str, str] | None:
    """A Host header's name (lower-case, no brackets, no trailing dot) and port (may be empty); None if malformed."""
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    return match["name"].strip("[]").removesuffix(".").lower(), match["port"] or ""


def is_loopback(address: str) -> bool:
    """Whether *address*, an IP or a name to bind to, is this machine only."""
    try:
        ip = ipaddress.ip_address(plain_ip(address))
    except ValueError:
        return address.lower() == "localhost"
    return ip.is_loopback


def plain_ip(address: str) -> str:
    """An IP address as it is usually written, an IPv4 one in IPv6 clothes as IPv4; ValueError if it is none."""
    ip = ipaddress.ip_address(address)
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a proxy handed on a request with these *headers* (names in lower case), or says so."""
    return any(name in FORWARDING or name.startswith("x-forwarded") for name in headers)


def is_from_here(headers: Mapping[str, str], address: str) -> bool:
    """Whether a request comes from this machine, without a proxy between; *address* is its peer's."""
    return is_loopback(address) and not is_forwarded(headers)


@attrs.define
class Guard:
    """
    The checks in front of every route, API or not.

    The Host allow-list is what stops DNS rebinding; the Origin check stops other sites' pages from calling us.
    """

    settings: ServerSettings
    _has_warned: bool = attrs.field(default=False, init=False)

    def check(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Raise ForbiddenError, BadRequestError or UnauthorizedError for a request that must not pass."""
        self._size(scope)
        if scope["type"] == "http" and scope["method"] not in METHODS:
            raise BadRequestError(f"The method {scope['method'][:20]} is not supported.")
        host = self._host(scope, headers)
        self._origin(scope, headers, host)
        self._secret(scope, headers)
        self._warn(scope, headers)

    def _size(self, scope: Mapping[str, Any]) -> None:
        total = sum(len(n) + len(v) for n, v in scope["headers"])
        if total > self.settings.max_header_kb * 1024 or len(scope["headers"]) > MAX_HEADERS:
            raise BadRequestError(
                f"The headers are too large: at most {self.settings.max_header_kb} KiB in {MAX_HEADERS} lines."
            )

    def _host(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[str, str]:
        host = split_host(headers.get("host", ""))
        if host is None or host[0] not in self._names() | {_own_address(scope)}:
            raise ForbiddenError(
                "This server is not known by the name in the Host header; "
                "add it to hosts in the [server] table of the settings file."
            )
        return host

    def _names(self) -> frozenset[str]:
        own = {h.lower().removesuffix(".") for h in self.settings.hosts}
        return LOOPBACK_NAMES | own | ({self.settings.host.lower()} - WILDCARDS)

    def _origin(self, scope: Mapping[str, Any], headers: Mapping[str, str], host: tuple[str, str]) -> None:
        upgrade = scope["type"] == "websocket"
        if not upgrade and scope["method"] in SAFE_METHODS:
            return
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
                raise ForbiddenError("Requests from other sites are refused.")
            return
        if self.settings.allow_origin in {"*", origin} or self._is_ours(scope, headers, origin, host):
            return
        raise ForbiddenError(
            "The Origin header names another site; set allow_origin in the [server] table to let it in."
        )

    def _is_ours(
        self, scope: Mapping[str, Any], headers: Mapping[str, str], origin: str, host: tuple[str, str]
    ) -> bool:
        try:
            parts = urlsplit(origin)
            theirs = split_host(parts.netloc)
        except ValueError:
            return False
        scheme = self.scheme(scope, headers)
        if theirs is None or parts.scheme.lower() != scheme:
            return False
        default = "443" if scheme == "https" else "80"
        return (theirs[0], theirs[1] or default) == (host[0], host[1] or default)

    def scheme(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> str:
        """``http`` or ``https``, as the client sees it; a proxy's word counts only if it is trusted."""
        if self._trusted(scope) and "x-forwarded-proto" in headers:
            return headers["x-forwarded-proto"].split(",")[0].strip().lower()
        return "https" if scope["scheme"] in {"https", "wss"} else "http"

    def _trusted(self, scope: Mapping[str, Any]) -> bool:
        return peer(scope) in self.settings.trusted_proxies

    def _secret(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        wanted = self.settings.authorization
        if not wanted or is_from_here(headers, peer(scope)):
            return
        given = headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            raise UnauthorizedError("The Authorization header is missing or wrong.")

    def _warn(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Tell the operator, once, of a proxy that the settings do not name: all its clients count as one."""
        if not self._has_warned and is_forwarded(headers) and not self._trusted(scope):
            self._has_warned = True
            log.warning(
                "a request from %s has forwarding headers, which are not believed; "
                "if that is a proxy of yours, name it in trusted_proxies",
                peer(scope),
            )

    def client(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> str:
        """
        The address that limits count by: the peer, or behind trusted proxies the nearest hop that is not one.

        What a hop says of the hops before it counts only if it is trusted itself.
        """
        hops = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",")]
        found = peer(scope)
        while found in self.settings.trusted_proxies and hops:
            try:
                found = plain_ip(hops.pop())
            except ValueError:
                break
        return found

    def address(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> str:
        """Source-address text: the peer, and what a trusted proxy says it forwards for."""
        found = peer(scope)
        if self._trusted(scope) and "x-forwarded-for" in headers:
            via = re.sub(r"[^\w .:,;*@#%\[\]-]", "", headers["x-forwarded-for"], flags=re.ASCII)
            found = f"{found} (via {via[:200]})"
        return found


def _own_address(scope: Mapping[str, Any]) -> str:
    """The IP address that the client connected to. No name leads there, so it is safe from DNS rebinding."""
    return _end(scope.get("server"))


def peer(scope: Mapping[str, Any]) -> str:
    """The IP address at the other end of the connection."""
    return _end(scope.get("client")) or "unknown"


def _end(end: Sequence[Any] | None) -> str:
    try:
        return plain_ip(str(end[0])) if end else ""
    except ValueError:  # a UNIX socket's name, a test client's
        return str(end[0]).lower() if end else ""
