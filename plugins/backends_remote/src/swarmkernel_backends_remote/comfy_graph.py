"""Graphs for ComfyUI, put together from parts that are data files.

A part has `nodes` as ComfyUI's API format has them. An input is a constant, a link within the part (`["node", 0]`),
a link to what an earlier part gives (`{"from": "model"}`), or a value of the job (`{"value": "prompt"}`). `gives` names
outputs for later parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

import attrs
import orjson

#: The parts without which nothing can be made, and those that some jobs need by the feature that they stand for.
BASE: Final = ("checkpoint", "empty", "sample", "save")
FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "lora": ("lora",),
    "init_image": ("init_image",),
    "mask_image": ("init_image", "mask_image", "inpaint", "keep_unmasked"),
}
SAMPLER: Final = "sampler"
SAVE: Final = "save"


@attrs.frozen
class Part:
    """Some nodes by role, and what they give to later parts."""

    nodes: Mapping[str, Mapping[str, Any]]
    gives: Mapping[str, tuple[str, int]]


@cache
def part(name: str) -> Part:
    """A part by the name of its file."""
    file = resources.files(__package__) / "comfy_parts" / f"{name}.json"
    data = orjson.loads(file.read_bytes())
    return Part(data["nodes"], {role: (node, slot) for role, (node, slot) in data["gives"].items()})


def put_together(parts: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The graph of some parts, each with its values. A part may come twice."""
    graph: dict[str, Any] = {}
    given: dict[str, list[Any]] = {}
    for number, (name, values) in enumerate(parts):
        added = part(name)
        ids = {role: role if role not in graph else f"{role}_{number}" for role in added.nodes}
        for role, node in added.nodes.items():
            inputs = {key: _filled(raw, values, given, ids) for key, raw in node["inputs"].items()}
            graph[ids[role]] = {"class_type": node["class_type"], "inputs": inputs}
        given |= {role: [ids[node], slot] for role, (node, slot) in added.gives.items()}
    return graph


def _filled(
    raw: Any, values: Mapping[str, Any], given: Mapping[str, list[Any]], ids: Mapping[str, str]
) -> Any:
    match raw:
        case {"value": name}:
            return values[name]
        case {"from": role}:
            return given[role]
        case [role, slot]:
            return [ids[role], slot]
    return raw
