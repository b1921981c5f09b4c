"""A parameter as a value: everything that clients and the server know of it."""

from __future__ import annotations

import re
from typing import Any, Literal

import attrs

from swarmkernel import Permission

ParamType = Literal[
    "text",
    "integer",
    "decimal",
    "boolean",
    "dropdown",
    "image",
    "model",
    "list",
    "image_list",
    "audio",
    "audio_list",
    "video",
    "video_list",
]
ViewType = Literal["normal", "prompt", "small", "big", "slider", "pot_slider", "seed", "video_frames"]

_NOT_IN_IDS = re.compile("[^a-z]")


def clean_id(name: str) -> str:
    """The id of a name: lower case, letters a to z alone. ``CFG Scale`` and ``cfg_scale`` are ``cfgscale``."""
    return _NOT_IN_IDS.sub("", name.lower())


@attrs.frozen
class Group:
    """A heading under which clients show parameters. `priority` sorts, ascending."""

    name: str
    priority: float = 0
    toggles: bool = False
    open: bool = True
    description: str = ""
    advanced: bool = False
    can_shrink: bool = True
    parent: Group | None = None

    @property
    def id(self) -> str:
        """The name's letters."""
        return clean_id(self.name)

    def to_wire(self) -> dict[str, Any]:
        """The group as `ListT2IParams` shows it."""
        return {
            "name": self.name,
            "id": self.id,
            "toggles": self.toggles,
            "open": self.open,
            "priority": self.priority,
            "description": self.description,
            "advanced": self.advanced,
            "can_shrink": self.can_shrink,
            "parent": self.parent.id if self.parent else None,
        }


@attrs.frozen
class Param:
    """One parameter of a generation.

    `default` is text, as on the wire. A value equal to `ignore` removes the parameter from the request.
    `min` and `max` are checked unless both are 0; `view_min` and `view_max` only bound a slider.
    `values` are the options of a dropdown or list, `value_names` how they read, if that differs;
    for a model parameter `values` are what it takes besides the models of its `subtype`.
    `feature_flag` (comma-separated) is what a backend must support once the parameter is set; clients hide the parameter
    while none does. `needs` is the same, but clients are not told.
    `hidden_from_metadata` keeps the value out of the picture's metadata.
    """

    name: str
    type: ParamType
    default: str | None = ""
    description: str = ""
    ignore: str | None = None
    min: float = 0
    max: float = 0
    view_min: float = 0
    view_max: float = 0
    step: float = 0
    values: tuple[str, ...] | None = None
    value_names: tuple[str, ...] | None = None
    examples: tuple[str, ...] | None = None
    visible: bool = True
    advanced: bool = False
    feature_flag: str | None = None
    needs: str | None = None
    toggleable: bool = False
    priority: float = 0
    group: Group | None = None
    subtype: str | None = None
    always_retain: bool = False
    do_not_save: bool = False
    do_not_preview: bool = False
    view_type: ViewType = "small"
    extra_hidden: bool = False
    can_sectionalize: bool = False
    nonreusable: bool = False
    depend_non_default: str | None = None
    permission: Permission | None = None
    hidden_from_metadata: bool = False

    @property
    def id(self) -> str:
        """The name's letters: the parameter's key in a request."""
        return clean_id(self.name)

    @property
    def features(self) -> frozenset[str]:
        """What a backend must support, one by one."""
        named = f"{self.feature_flag or ''},{self.needs or ''}"
        return frozenset(filter(None, named.replace(" ", "").split(",")))

    def to_wire(self) -> dict[str, Any]:
        """The parameter as `ListT2IParams` shows it: every key, always."""
        names = self.value_names or self.values
        return {
            "name": self.name,
            "id": self.id,
            "description": self.description,
            "type": self.type,
            "subtype": self.subtype,
            "default": self.default,
            "min": self.min,
            "max": self.max,
            "view_min": self.view_min,
            "view_max": self.view_max,
            "step": self.step,
            "values": None if self.values is None else list(self.values),
            "value_names": None if names is None else list(names),
            "examples": None if self.examples is None else list(self.examples),
            "visible": self.visible,
            "advanced": self.advanced,
            "feature_flag": self.feature_flag,
            "toggleable": self.toggleable,
            "priority": self.priority,
            "group": self.group.id if self.group else None,
            "always_retain": self.always_retain,
            "do_not_save": self.do_not_save,
            "do_not_preview": self.do_not_preview,
            "view_type": self.view_type,
            "extra_hidden": self.extra_hidden,
            "can_sectionalize": self.can_sectionalize,
            "nonreusable": self.nonreusable,
            "depend_non_default": self.depend_non_default,
        }
