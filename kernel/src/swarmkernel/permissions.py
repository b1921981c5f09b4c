"""Permissions as values, and how votes on them combine."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

import attrs


class Level(enum.IntEnum):
    """The lowest built-in role that holds a permission until an operator says otherwise."""

    GUEST = 0
    USER = 1
    POWER = 2
    ADMIN = 3
    OWNER = 4


class Safety(enum.Enum):
    """How much harm the holder of a permission can do."""

    SAFE = "SAFE"
    UNTESTED = "UNTESTED"
    RISKY = "RISKY"
    POWERFUL = "POWERFUL"


@attrs.frozen
class Permission:
    """A named right. Routes refer to the value, clients and roles to its id."""

    id: str
    name: str
    group: str = attrs.field(kw_only=True)
    default: Level = attrs.field(kw_only=True)
    safety: Safety = attrs.field(kw_only=True, default=Safety.SAFE)
    description: str = attrs.field(kw_only=True, default="", eq=False)


class Public(enum.Enum):
    """The type of PUBLIC: a route that says out loud that it needs no session."""

    PUBLIC = enum.auto()


PUBLIC: Final = Public.PUBLIC


def granted(votes: Iterable[bool | None]) -> bool:
    """One no refuses, one yes allows, silence refuses."""
    cast = set(votes)
    return True in cast and False not in cast
