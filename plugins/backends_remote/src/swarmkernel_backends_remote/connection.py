"""What settings of backends that are other servers have in common."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from swarmkernel_backend_api import setting
from swarmkernel_backends_remote.errors import PeerError

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")


class Connection(Protocol):
    """Where a server is, and how it is spoken to."""

    @property
    def address(self) -> str:
        """Its address."""

    @property
    def authorization_header(self) -> str:
        """The value of the Authorization header, or nothing."""

    @property
    def other_headers(self) -> str:
        """Lines of a name, a colon and a value."""

    @property
    def connection_attempt_timeout_seconds(self) -> int:
        """How long a connection may take."""


def address(description: str, placeholder: str) -> Any:
    """The setting `Address`."""
    text = f"{description} Empty: this backend stays disabled."
    return setting("", title="Address", description=text, placeholder=placeholder)


def allow_idle() -> Any:
    """The setting `AllowIdle`."""
    text = "Show as idle, and not as errored, while it is out of reach."
    return setting(False, title="AllowIdle", description=text)


def authorization(description: str) -> Any:
    """The setting `AuthorizationHeader`."""
    return setting("", title="AuthorizationHeader", description=description, secret=True)


def other_headers() -> Any:
    """The setting `OtherHeaders`."""
    text = "More headers, one in a line."
    return setting("", title="OtherHeaders", description=text, placeholder="Name: value")


def connect_seconds() -> Any:
    """The setting `ConnectionAttemptTimeoutSeconds`."""
    text = "How long a connection may take."
    return setting(30, title="ConnectionAttemptTimeoutSeconds", description=text)


def headers_of(settings: Connection) -> dict[str, str]:
    """The headers of every request; PeerError if one cannot be sent. What they hold is told to nobody."""
    found = {}
    for number, line in enumerate(filter(str.strip, settings.other_headers.splitlines()), 1):
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name.strip()) or not _VALUE.fullmatch(value.strip()):
            raise PeerError(f"Line {number} of OtherHeaders must be like 'Name: value'.", "invalid_setting")
        found[name.strip()] = value.strip()
    authorization = settings.authorization_header.strip()
    if not _VALUE.fullmatch(authorization):
        raise PeerError("AuthorizationHeader must be one line of ASCII.", "invalid_setting")
    return found | ({"Authorization": authorization} if authorization else {})
