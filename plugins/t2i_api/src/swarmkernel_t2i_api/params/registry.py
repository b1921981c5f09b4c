"""All parameters of this server, and which of them a name means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import attrs

from swarmkernel_t2i_api.params.types import Group, Param, clean_id

#: Older ids of parameters.
REMAPS: Final[Mapping[str, str]] = {
    "saveintermediateimages": "outputintermediateimages",
    "textvideofps": "videofps",
    "textvideoboomerang": "videoboomerang",
    "textvideoformat": "videoformat",
}

Options = Callable[[], Iterable[tuple[str, str]]]


@attrs.define
class ParamRegistry:
    """The parameters by id, as a service.

    `live` gives the options of dropdowns that change while the server runs: pairs of value and name, by id.
    """

    _params: dict[str, Param]
    live: dict[str, Options] = attrs.field(factory=dict)

    def __iter__(self) -> Iterator[Param]:
        """Every parameter, with the options that it has now."""
        return (self._now(param) for param in self._params.values())

    def get(self, name: str) -> Param | None:
        """The parameter that a key of a request means, or None."""
        cleaned = clean_id(name)
        param = self._params.get(cleaned) or self._params.get(REMAPS.get(cleaned, ""))
        return param and self._now(param)

    def groups(self) -> list[Group]:
        """The groups that occur, with those above them, by priority."""
        found: dict[str, Group] = {}
        for param in self._params.values():
            group = param.group
            while group is not None and group.id not in found:
                found[group.id] = group
                group = group.parent
        return sorted(found.values(), key=lambda group: group.priority)

    def _now(self, param: Param) -> Param:
        options = self.live.get(param.id)
        if options is None:
            return param
        pairs = list(options())
        return attrs.evolve(param, values=tuple(v for v, _ in pairs), value_names=tuple(n for _, n in pairs))
