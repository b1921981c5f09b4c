"""The settings of a backend that is another server of this API."""

from __future__ import annotations

import attrs

from swarmkernel_backend_api import setting
from swarmkernel_backends_remote import connection


@attrs.frozen
class SwarmSettings:
    """Where the other server is, and how it is spoken to."""

    address: str = connection.address("Where the other server is.", "http://192.168.1.20:7801")
    allow_idle: bool = connection.allow_idle()
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
    authorization_header: str = connection.authorization(
        "The value of the Authorization header, such as: Bearer ..."
    )
    other_headers: str = connection.other_headers()
    connection_attempt_timeout_seconds: int = connection.connect_seconds()
