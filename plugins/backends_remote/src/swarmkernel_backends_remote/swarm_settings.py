"""The settings of a backend that is another server of this API."""

from __future__ import annotations

import re
from typing import Final

import attrs

from swarmkernel_backend_api import setting
from swarmkernel_backends_remote.errors import PeerError

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")


@attrs.frozen
class SwarmSettings:
    """Where the other server is, and how it is spoken to."""

    address: str = setting(
        "",
        title="Address",
        description="Where the other server is. Empty: this backend stays disabled.",
        placeholder="http://192.168.1.20:7801",
    )
    allow_idle: bool = setting(
        False, title="AllowIdle", description="Show as idle, and not as errored, while it is out of reach."
    )
    allow_forwarding: bool = setting(
        True,
        title="AllowForwarding",
        description="Use the other server's own remote backends and models too.",
    )
    allow_websocket: bool = setting(
        True,
        title="AllowWebsocket",
        description="Follow pictures as they come; else wait for each, without previews.",
    )
    authorization_header: str = setting(
        "",
        title="AuthorizationHeader",
        description="The value of the Authorization header, such as: Bearer ...",
        secret=True,
    )
    other_headers: str = setting(
        "", title="OtherHeaders", description="More headers, one in a line.", placeholder="Name: value"
    )
    connection_attempt_timeout_seconds: int = setting(
        30, title="ConnectionAttemptTimeoutSeconds", description="How long a connection may take."
    )

    def headers(self) -> dict[str, str]:
        """The headers of every request; PeerError if one cannot be sent. What they hold is told to nobody."""
        found = {}
        for number, line in enumerate(filter(str.strip, self.other_headers.splitlines()), 1):
            name, colon, value = line.partition(":")
            if not colon or not _NAME.fullmatch(name.strip()) or not _VALUE.fullmatch(value.strip()):
                raise PeerError(
                    f"Line {number} of OtherHeaders must be like 'Name: value'.", "invalid_setting"
                )
            found[name.strip()] = value.strip()
        if not _VALUE.fullmatch(self.authorization_header.strip()):
            raise PeerError("AuthorizationHeader must be one line of ASCII.", "invalid_setting")
        if self.authorization_header.strip():
            found["Authorization"] = self.authorization_header.strip()
        return found
