"""The settings of a backend that is a ComfyUI server."""

from __future__ import annotations

import attrs
from attrs.validators import ge, le

from swarmkernel_backend_api import setting
from swarmkernel_backends_remote import connection


@attrs.frozen
class ComfySettings:
    """Where ComfyUI is, how it is spoken to, and how much of it is used."""

    address: str = connection.address("Where ComfyUI is.", "http://192.168.1.20:8188")
    allow_idle: bool = connection.allow_idle()
    over_queue: int = setting(
        1,
        title="OverQueue",
        description="How many jobs wait over there beside the one that runs, so that no time is lost between them.",
        validator=[ge(-1), le(63)],
    )
    authorization_header: str = connection.authorization(
        "The value of the Authorization header, if something before ComfyUI wants one."
    )
    other_headers: str = connection.other_headers()
    connection_attempt_timeout_seconds: int = connection.connect_seconds()
    stuck_seconds: int = setting(
        600,
        title="StuckSeconds",
        description="A job that runs for so long without a sign of life is given up. Loading a model gives none.",
        validator=ge(1),
    )


def places(settings: ComfySettings) -> int:
    """How many jobs a server gets at once."""
    return 1 + settings.over_queue
