"""The settings of a backend that is a ComfyUI server."""

from __future__ import annotations

import attrs
from attrs.validators import ge, le

from swarmkernel_backend_api import setting
from swarmkernel_backends_remote.swarm_settings import SwarmSettings


@attrs.frozen
class ComfySettings:
    """Where ComfyUI is, how it is spoken to, and how much of it is used."""

    address: str = setting(
        "",
        title="Address",
        description="Where ComfyUI is. Empty: this backend stays disabled.",
        placeholder="http://192.168.1.20:8188",
    )
    allow_idle: bool = setting(
        False, title="AllowIdle", description="Show as idle, and not as errored, while it is out of reach."
    )
    over_queue: int = setting(
        1,
        title="OverQueue",
        description="How many jobs wait over there beside the one that runs, so that no time is lost between them.",
        validator=[ge(-1), le(63)],
    )
    authorization_header: str = setting(
        "",
        title="AuthorizationHeader",
        description="The value of the Authorization header, if something before ComfyUI wants one.",
        secret=True,
    )
    other_headers: str = setting(
        "", title="OtherHeaders", description="More headers, one in a line.", placeholder="Name: value"
    )
    connection_attempt_timeout_seconds: int = setting(
        30, title="ConnectionAttemptTimeoutSeconds", description="How long a connection may take."
    )
    stuck_seconds: int = setting(
        600,
        title="StuckSeconds",
        description="A job that runs for so long without a sign of life is given up. Loading a model gives none.",
        validator=ge(1),
    )

    def headers(self) -> dict[str, str]:
        """The headers of every request; PeerError if one cannot be sent."""
        return SwarmSettings(
            authorization_header=self.authorization_header, other_headers=self.other_headers
        ).headers()


def places(settings: ComfySettings) -> int:
    """How many jobs a server gets at once."""
    return 1 + settings.over_queue
