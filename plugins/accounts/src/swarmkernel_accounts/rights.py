"""What somebody may do, by all of their roles together."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import attrs

from swarmkernel_accounts.values import Role

FULL_CONTROL = "*"
#: Denies every model, since each name begins with it.
NO_NAME = frozenset({""})


@attrs.frozen
class Models:
    """
    Which models somebody may use, by the beginnings of their names in any letter case.

    *denied* beats *allowed*; if nothing is *allowed*, everything is.
    """

    allowed: frozenset[str]
    denied: frozenset[str]

    def cover(self, other: "Models") -> bool:
        """Whether every name that *other* lets through passes here too."""
        return self._allow(other) and all(other.none_begins(start) for start in self.denied)

    def _allow(self, other: "Models") -> bool:
        if not self.allowed or other.denies(""):
            return True
        open_ones = [start for start in other.allowed if not other.denies(start)]
        return bool(other.allowed) and all(start.startswith(tuple(self.allowed)) for start in open_ones)

    def denies(self, name: str) -> bool:
        """Whether no name that begins with *name* passes, for a denied beginning of it."""
        return name.startswith(tuple(self.denied))

    def none_begins(self, start: str) -> bool:
        """Whether no name that begins with *start* passes."""
        if self.denies(start):
            return True
        overlapping = [a for a in self.allowed if a.startswith(start) or start.startswith(a)]
        return bool(self.allowed) and all(self.denies(a) for a in overlapping)


@attrs.frozen(cache_hash=True)
class Rights:
    """The union of roles: what they permit, and how far. `Rights()` is what somebody without a role has."""

    permissions: frozenset[str] = frozenset()
    max_outpath_depth: int = 0
    max_t2i_simultaneous: int = 1
    allow_unsafe_outpaths: bool = False
    model_whitelist: frozenset[str] = frozenset()
    model_blacklist: frozenset[str] = frozenset()

    @classmethod
    def of(cls, roles: Iterable[Role]) -> "Rights":
        """Unite *roles*: all permissions, the highest limits, and the entries of all lists of models."""
        rights = cls()
        for role in roles:
            rights = cls(
                rights.permissions.union(role.permissions),
                max(rights.max_outpath_depth, role.max_outpath_depth),
                max(rights.max_t2i_simultaneous, role.max_t2i_simultaneous),
                rights.allow_unsafe_outpaths or role.allow_unsafe_outpaths,
                rights.model_whitelist.union(map(str.lower, role.model_whitelist)),
                rights.model_blacklist.union(map(str.lower, role.model_blacklist)),
            )
        return rights

    def has(self, permission_id: str) -> bool:
        """Whether the permission is held, by its own id or by full control."""
        return permission_id in self.permissions or FULL_CONTROL in self.permissions

    def covers(self, other: "Rights") -> bool:
        """Whether *other* allows nothing that these do not; full control covers all."""
        return not other.exceeds(self)

    def exceeds(self, *bounds: "Rights") -> bool:
        """Whether a permission, a limit or the models go beyond each of *bounds*."""
        if any(FULL_CONTROL in bound.permissions for bound in bounds):
            return False
        return (
            not self.permissions <= frozenset().union(*(bound.permissions for bound in bounds))
            or self.max_outpath_depth > max(bound.max_outpath_depth for bound in bounds)
            or self.max_t2i_simultaneous > max(bound.max_t2i_simultaneous for bound in bounds)
            or self.allow_unsafe_outpaths > max(bound.allow_unsafe_outpaths for bound in bounds)
            or not any(bound.models.cover(self.models) for bound in bounds)
        )

    @property
    def models(self) -> Models:
        """Which models may be used: none at all by who has no permission."""
        return Models(self.model_whitelist, self.model_blacklist if self.permissions else NO_NAME)

    def limits(self) -> Mapping[str, Any]:
        """What is allowed beyond permissions, as `swarmkernel.Limits` tells it."""
        return _limits(self)


@lru_cache(maxsize=1000)
def _limits(rights: Rights) -> Mapping[str, Any]:
    """Made once, since it is asked for with every model that is listed."""
    return {
        "max_outpath_depth": rights.max_outpath_depth,
        "max_t2i_simultaneous": rights.max_t2i_simultaneous,
        "allow_unsafe_outpaths": rights.allow_unsafe_outpaths,
        "model_whitelist": tuple(sorted(rights.model_whitelist)),
        "model_blacklist": tuple(sorted(rights.model_blacklist)),
    }


#: Of whoever is trusted with everything.
EVERYTHING = Rights(
    permissions=frozenset({FULL_CONTROL}),
    max_outpath_depth=1000,
    max_t2i_simultaneous=1000,
    allow_unsafe_outpaths=True,
)
