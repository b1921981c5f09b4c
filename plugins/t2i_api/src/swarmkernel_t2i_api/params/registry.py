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
    `added` gives values of a dropdown beside its own, which not every backend takes.
    """

    _params: dict[str, Param]
    live: dict[str, Options] = attrs.field(factory=dict)
    added: Callable[[str], Iterable[str]] = lambda _: ()

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

    def choices(self, values: Mapping[str, object]) -> frozenset[tuple[str, str]]:
        """Those of the values, by id, that only some backends take."""
        given = ((self._params.get(key), value) for key, value in values.items())
        return frozenset(
            (param.id, value)
            for param, value in given
            if param is not None
            and param.type == "dropdown"
            and param.id not in self.live
            and isinstance(value, str)
            and value not in (param.values or ())
        )

    def _now(self, param: Param) -> Param:
        if param.type != "dropdown":
            return param
        if param.id in self.live:
            options = dict(self.live[param.id]())
        else:
            values = param.values or ()
            options = dict(zip(values, param.value_names or values, strict=True))
            options |= {value: value for value in self.added(param.id) if value not in options}
        return attrs.evolve(param, values=tuple(options), value_names=tuple(options.values()))
