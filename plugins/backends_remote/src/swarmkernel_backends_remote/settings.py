"""The plugin's table in the settings file."""

from __future__ import annotations

import attrs
from attrs.validators import ge, gt

from swarmkernel_backends_remote.hosts import check_rule


def _rules(_instance: object, _attribute: attrs.Attribute[list[str]], value: list[str]) -> None:
    for rule in value:
        check_rule(rule)


@attrs.frozen
class RemoteSettings:
    """`[backends_remote]`: which servers may be backends, and how much one of them may say at once.

    `allowed_hosts` are host names (`*.` before one for all below it), addresses and networks. Empty: any, and with
    accounts any public one. Link-local addresses and those of a cloud's metadata service are never connected to. `answer_seconds` is the time for an answer
    that takes no work.
    """

    allowed_hosts: list[str] = attrs.field(factory=list, validator=_rules)
    max_answer_mib: int = attrs.field(default=128, validator=ge(1))
    answer_seconds: float = attrs.field(default=20.0, validator=gt(0))
