"""Files that were found and what is known of them, put together into models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from swarmkernel_models_api.classes import CLASSES
from swarmkernel_models_api.examine import Found
from swarmkernel_models_api.facts import Facts
from swarmkernel_models_api.names import Shelf
from swarmkernel_models_api.types import Model


@attrs.frozen
class TensorHash:
    """The hash of a file's tensors, as long as the file's stamp is this."""

    stamp: str
    hash: str


def shelves_of(
    found: Iterable[Found], facts: Mapping[str, Facts], hashes: Mapping[str, TensorHash]
) -> dict[str, Shelf]:
    """The models by kind; of two of one name the first counts."""
    models: dict[str, dict[str, Model]] = {}
    for item in found:
        named = models.setdefault(item.kind, {})
        first = named.get(item.name)
        if first is None:
            digest = hashes.get(item.key)
            model = _model(item, facts[item.key])
            is_current = digest is not None and digest.stamp == item.stamp and not model.metadata.hash
            named[item.name] = with_hash(model, digest.hash) if digest and is_current else model
        else:
            named[item.name] = attrs.evolve(first, alternates=(*first.alternates, item.path))
    return {kind: Shelf.of(named) for kind, named in models.items()}


def _model(found: Found, facts: Facts) -> Model:
    known = CLASSES.get(facts.class_id or "")
    return Model(
        found.name,
        found.kind,
        found.path,
        facts.title,
        class_id=facts.class_id,
        compat_class=known.compat_class if known else None,
        standard_width=facts.width or (known.standard_width if known else 0),
        standard_height=facts.height or (known.standard_height if known else 0),
        problem=facts.problem,
        metadata=facts.metadata,
        preview=found.preview,
        embedded_preview=facts.embedded_preview,
        is_folder=found.is_folder,
        modified=found.modified,
        created=found.created,
        stamp=found.stamp,
        sidecars=found.sidecars,
        forms=facts.forms,
    )


def with_hash(model: Model, digest: str) -> Model:
    """The model with the hash of its tensors filled in."""
    return attrs.evolve(model, metadata=attrs.evolve(model.metadata, hash=digest))
