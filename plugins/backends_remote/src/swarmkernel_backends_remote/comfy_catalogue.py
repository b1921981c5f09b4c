"""What a ComfyUI server has: nodes with their inputs, models, samplers and schedulers, as its `object_info` tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import attrs

from swarmkernel_backends_remote import answers
from swarmkernel_backends_remote.comfy_graph import BASE, FEATURES, part
from swarmkernel_backends_remote.errors import PeerError
from swarmkernel_models_api import Model, ModelList, stem

MAX_OPTIONS: Final = 5000
MAX_INPUTS: Final = 200
#: Which input of which node lists the models of a kind.
_LISTS: Final = {
    "Stable-Diffusion": ("CheckpointLoaderSimple", "ckpt_name"),
    "LoRA": ("LoraLoader", "lora_name"),
    "VAE": ("VAELoader", "vae_name"),
}
_OTHERS: Final = ("clip_stop", "vae", "mask_blur")


def _all_parts() -> frozenset[str]:
    return frozenset((*BASE, *_OTHERS, *(name for names in FEATURES.values() for name in names)))


def _classes() -> tuple[str, ...]:
    return tuple(sorted({node["class_type"] for name in _all_parts() for node in part(name).nodes.values()}))


#: The classes of nodes that parts use.
CLASSES: Final = _classes()


@attrs.frozen
class Node:
    """A class of nodes: its inputs with what may be chosen for each (empty: anything), and how many outputs it has."""

    required: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]]
    outputs: int

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Node:
        """From an entry of `object_info`."""
        inputs, outputs = said.get("input"), said.get("output")
        groups = inputs if isinstance(inputs, dict) else {}
        return cls(
            _inputs(groups.get("required")),
            _inputs(groups.get("optional")),
            len(outputs) if isinstance(outputs, list) else 0,
        )


def _inputs(said: object) -> dict[str, tuple[str, ...]]:
    entries = islice(said.items(), MAX_INPUTS) if isinstance(said, dict) else ()
    return {name: tuple(_options(spec)) for name, spec in entries if isinstance(name, str)}


def _options(spec: object) -> Iterator[str]:
    """The choices of an input: a list in place of its type, or beside the type COMBO."""
    found: object = spec[0] if isinstance(spec, list) and spec else None
    if found == "COMBO" and isinstance(spec, list) and len(spec) > 1 and isinstance(spec[1], dict):
        found = spec[1].get("options")
    for option in found[:MAX_OPTIONS] if isinstance(found, list) else ():
        if (known_as := answers.name(option)) is not None:
            yield known_as


@attrs.frozen(eq=False)
class Catalogue:
    """The nodes of a server by class, and what follows from them."""

    nodes: Mapping[str, Node]
    names: Mapping[str, Mapping[str, str]] = attrs.field(init=False)
    parts: frozenset[str] = attrs.field(init=False)

    @classmethod
    def of(cls, said: Mapping[str, object]) -> Catalogue:
        """From the entries of `object_info` by class."""
        return cls({name: Node.of(entry) for name, entry in said.items() if isinstance(entry, dict)})

    def __attrs_post_init__(self) -> None:
        names = {kind: self._names(*where) for kind, where in _LISTS.items()}
        usable = frozenset(name for name in _all_parts() if self.problem(name) is None)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "parts", usable)

    @property
    def features(self) -> tuple[str, ...]:
        """What jobs may ask for."""
        return tuple(feature for feature, names in FEATURES.items() if self.parts.issuperset(names))

    def options(self, kind: str, name: str) -> tuple[str, ...]:
        """What may be chosen for an input of a class."""
        node = self.nodes.get(kind)
        return () if node is None else node.required.get(name, ())

    def choices(self) -> dict[str, tuple[str, ...]]:
        """The samplers and schedulers, by parameter."""
        return {
            "sampler": self.options("KSampler", "sampler_name"),
            "scheduler": self.options("KSampler", "scheduler"),
        }

    def models(self) -> ModelList:
        """The models as this server lists them."""
        return ModelList(
            {kind: {name: _model(kind, name) for name in names} for kind, names in self.names.items()}
        )

    def native(self, kind: str, name: str) -> str:
        """What ComfyUI calls a model; PeerError if it has none of that name."""
        for wire, native in self.names[kind].items():
            if stem(wire) == stem(name):
                return native
        raise PeerError(f"ComfyUI has no {kind} model {name[:200]}.", "model_not_found")

    def check(self) -> None:
        """Raise PeerError if the server cannot do the least that is needed."""
        for name in BASE:
            if problem := self.problem(name):
                raise PeerError(f"This ComfyUI cannot be used: {problem}.", "not_supported")

    def need(self, name: str) -> str:
        """A part's name, if the server can do it; else a PeerError."""
        if name not in self.parts:
            raise PeerError(f"This ComfyUI cannot do {name}: {self.problem(name)}.", "not_supported")
        return name

    def problem(self, name: str) -> str | None:
        """Why a part cannot be used here."""
        wanted = part(name)
        for said in wanted.nodes.values():
            kind, inputs = said["class_type"], said["inputs"]
            if kind not in self.nodes:
                return f"it has no node {kind}"
            if problem := _misfit(self.nodes[kind], inputs):
                return f"its node {kind} {problem}"
        for role, slot in wanted.gives.values():
            if slot >= self.nodes[wanted.nodes[role]["class_type"]].outputs:
                return f"its node {wanted.nodes[role]['class_type']} has no output {slot}"
        return None

    def _names(self, kind: str, name: str) -> dict[str, str]:
        return {option.replace("\\", "/"): option for option in self.options(kind, name)}


def _misfit(node: Node, inputs: Mapping[str, Any]) -> str | None:
    known = {**node.required, **node.optional}
    for name, value in inputs.items():
        if name not in known:
            return f"has no input {name}"
        if isinstance(value, str) and known[name] and value not in known[name]:
            return f"does not take {value} for {name}"
    missing = sorted(node.required.keys() - inputs.keys())
    return f"needs an input {missing[0][:80]}" if missing else None


def _model(kind: str, name: str) -> Model:
    return Model(name, kind, Path(), name.rpartition("/")[2], stamp="0" * 8, is_local=False)
