"""What a model is, and where models are looked for."""

from __future__ import annotations

from pathlib import Path

import attrs

#: The subtype of main models on the wire.
MAIN = "Stable-Diffusion"


@attrs.frozen
class ModelFolder:
    """A folder that holds models of one kind (a subtype of the wire, such as `Stable-Diffusion` or `VAE`).

    The server never writes into a folder that is `read_only`.
    """

    path: Path
    kind: str = MAIN
    read_only: bool = True


@attrs.frozen
class Metadata:
    """What a model file and the files beside it say about the model. None: they do not say.

    `resolution` is `WxH` in pixels as the file states it. `hash` is `0x` and the SHA-256 of the tensor bytes.
    `prediction_type` is `epsilon`, `v` or whatever else the file states.
    """

    author: str | None = None
    description: str | None = None
    license: str | None = None
    date: str | None = None
    usage_hint: str | None = None
    trigger_phrase: str | None = None
    merged_from: str | None = None
    prediction_type: str | None = None
    preprocessor: str | None = None
    tags: tuple[str, ...] | None = None
    resolution: str = "0x0"
    is_negative_embedding: bool = False
    lora_default_weight: str = ""
    lora_default_confinement: str = ""
    hash: str = ""
    special_format: str = ""


@attrs.frozen
class Model:
    """One model that the server found.

    `name` is the path below its folder with `/` and the file's extension; a diffusers folder is one model that bears
    its own folder's name. `kind` is the wire's subtype. `class_id` and `compat_class` are None if the architecture is
    unknown. `standard_width` and `standard_height` are pixels, 0 if unknown. `problem` says why the file cannot be
    used and is None for one that can. `modified` and `created` are Unix milliseconds; `stamp` changes whenever
    the file does. `preview` is a picture beside the model, `embedded_preview` says that there is one in its metadata;
    `sidecars` are the JSON files beside it, `alternates` other files that bear the same name. `forms` are those in which
    its weights are there, such as `safetensors` and `onnx`; empty if that is unknown. One that only a backend elsewhere
    has is not `is_local`, and its path means nothing.
    """

    name: str
    kind: str
    path: Path
    title: str
    class_id: str | None = None
    compat_class: str | None = None
    standard_width: int = 0
    standard_height: int = 0
    problem: str | None = None
    metadata: Metadata = Metadata()
    preview: Path | None = None
    sidecars: tuple[Path, ...] = ()
    embedded_preview: bool = False
    is_folder: bool = False
    modified: int = 0
    created: int = 0
    stamp: str = ""
    alternates: tuple[Path, ...] = ()
    forms: frozenset[str] = frozenset()
    is_local: bool = True

    @property
    def is_supported(self) -> bool:
        """Whether the file is of a safe format and whole."""
        return self.problem is None
