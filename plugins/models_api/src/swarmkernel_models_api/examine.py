"""One look at one model: whatever the file is, this says so and raises nothing."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import attrs

from swarmkernel_models_api.classes import find_class
from swarmkernel_models_api.detect import Tensors, detect_class, special_format
from swarmkernel_models_api.diffusers_folders import read_folder
from swarmkernel_models_api.errors import ModelFileError
from swarmkernel_models_api.facts import Facts
from swarmkernel_models_api.formats import HEAD, sniff
from swarmkernel_models_api.headers import read_header
from swarmkernel_models_api.metadata import (
    read_architecture,
    read_metadata,
    read_resolution,
    read_thumbnail,
    read_title,
    stated,
)
from swarmkernel_models_api.opening import open_regular
from swarmkernel_models_api.types import Metadata

log = logging.getLogger(__name__)


@attrs.frozen
class Found:
    """A model that the scan came across; what is in it is not known yet. Times are Unix milliseconds."""

    name: str
    kind: str
    path: Path
    stamp: str
    modified: int
    created: int
    is_folder: bool = False
    title: str = ""
    sidecars: tuple[Path, ...] = ()
    preview: Path | None = None

    @property
    def key(self) -> str:
        """Under which key of the store this model is remembered."""
        return model_key(self.kind, self.path)


def model_key(kind: str, path: Path) -> str:
    """A key of bounded length for the model of that kind at that path."""
    return hashlib.blake2b(f"{kind}\n{path}".encode("utf-8", "replace"), digest_size=16).hexdigest()


def examine(found: Found) -> Facts:
    """What is in a model. A file that cannot be used has a `problem`; one that cannot be read is not remembered."""
    try:
        return _folder(found) if found.is_folder else _file(found)
    except ModelFileError as exc:
        return unusable(found, str(exc))
    except MemoryError:  # where it is bounded
        return unusable(found, "reading it takes too much memory")
    except OSError as exc:
        return attrs.evolve(_without(found, f"This model cannot be read: {exc.strerror}."), stamp="")
    except Exception:
        log.exception("%s could not be examined", found.path)  # a fault of ours, which costs this one model
        return attrs.evolve(
            _without(found, "This model could not be examined; see the server's log."), stamp=""
        )


def unusable(found: Found, why: str) -> Facts:
    """What is known of a model that cannot be used."""
    return _without(found, f"This model cannot be used: {why}.")


def _without(found: Found, problem: str) -> Facts:
    return Facts(found.stamp, _title(found), problem=problem)


def _title(found: Found) -> str:
    return found.title or Path(found.name).name


def _folder(found: Found) -> Facts:
    facts = read_folder(found.path)
    said = stated({}, found.sidecars)
    metadata = read_metadata(said)
    return Facts(
        found.stamp,
        read_title(said) or _title(found),
        class_id=_known_class(said) or facts.class_id,
        width=facts.width,
        height=facts.height,
        metadata=attrs.evolve(
            metadata,
            prediction_type=metadata.prediction_type or facts.prediction_type,
            resolution=f"{facts.width}x{facts.height}",
        ),
        embedded_preview=read_thumbnail(said) is not None,
        forms=facts.forms,
    )


def _file(found: Found) -> Facts:
    with open_regular(found.path) as file:
        size = os.fstat(file.fileno()).st_size
        kind = sniff(file.read(HEAD), size)
    if kind == "safetensors":
        return _safetensors(found)
    if kind == "gguf":
        said = stated({}, found.sidecars)
        metadata = attrs.evolve(read_metadata(said), special_format="gguf")
        return _described(found, "gguf", said, metadata, _known_class(said))
    if kind == "pickle":
        raise ModelFileError(
            "it is a pickle file or an archive, which can run programs when it is opened; convert it to safetensors"
        )
    raise ModelFileError("it is empty" if size == 0 else "its content is of no format that is known here")


def _safetensors(found: Found) -> Facts:
    header = read_header(found.path)
    said = stated(header.metadata, found.sidecars)
    metadata = read_metadata(said)
    metadata = attrs.evolve(
        metadata,
        special_format=metadata.special_format or special_format(header.shapes),
        prediction_type=metadata.prediction_type or ("v" if "v_pred" in header.shapes else None),
    )
    detected = _known_class(said) or detect_class(Tensors(header.shapes, found.name, found.kind))
    return _described(found, "safetensors", said, metadata, detected)


def _described(
    found: Found, form: str, said: dict[str, object], metadata: Metadata, class_id: str | None
) -> Facts:
    width, height = read_resolution(said)
    return Facts(
        found.stamp,
        read_title(said) or _title(found),
        class_id=class_id,
        width=width,
        height=height,
        metadata=metadata,
        embedded_preview=read_thumbnail(said) is not None,
        forms=frozenset({form}),
    )


def _known_class(said: dict[str, object]) -> str | None:
    known = find_class(read_architecture(said))
    return known.id if known else None
