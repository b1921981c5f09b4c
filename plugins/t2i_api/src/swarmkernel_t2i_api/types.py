"""What a backend gets to make one picture, and what it hands back."""

from __future__ import annotations

from typing import Any, Literal

import attrs

FileKind = Literal["PNG", "JPG", "WEBP", "WEBP_LOSSLESS"]


@attrs.frozen
class ImageFormat:
    """How a finished picture becomes a file.

    `quality` (1 to 100) counts for JPG and WEBP alone; `dpi` 0 leaves the resolution out; `color_depth` is bits
    per channel, 8 or 16 (PNG alone). `embed` says whether the job's metadata is written into the file;
    `stealth` hides it in the pixels as well.
    """

    kind: FileKind = "PNG"
    quality: int = 100
    dpi: int = 0
    color_depth: int = 8
    embed: bool = True
    stealth: Literal["false", "Alpha", "RGB"] = "false"


@attrs.frozen
class LoraUse:
    """A LoRA that a picture is made with, and how strongly (1 is as it was trained; -10 to 10).

    `name` is the one under which the server lists it; `path` is None if this server does not have the file.
    """

    name: str
    path: str | None = None
    weight: float = 1.0


@attrs.frozen
class ImageJob:
    """One picture to make: what `generate` of a backend gets.

    `model` is the name under which the server lists the model and `model_path` the file or diffusers folder;
    both are None for a backend that has no models to choose from; so it is with `vae` and `vae_path`, and a path is
    None if this server does not have the file. `width` and `height` are pixels, `seed` is
    never negative. `clip_stop_at_layer` counts from the end (-1 is the last layer, None the model's own choice).
    `variation_seed` is None unless `variation_strength` (0 to 1) says how much of it to blend in.
    `extra` holds the parameters that other packages added, typed, by id.

    `init_image` is the picture to start from, a file's bytes (PNG, JPEG, WEBP or GIF) of any size, which nobody has
    decoded yet: its header is known to be sound and to say at most 32 megapixels. `init_creativity` (0 to 1) says how
    much of it may change. `mask_image`, which comes only with an `init_image`, is such a file too: white changes,
    black stays; its edges are blurred by `mask_blur` pixels. They and `loras` come only to backends that have the
    features `init_image`, `mask_image` and `lora`. With `forward_raw` the client wants `RawFrame`s, if there are any.

    A backend need not look at `format` and `metadata`: the host encodes what it yields.
    `metadata` is the JSON text of the picture; the host adds the generation time before it is written.
    """

    id: str
    prompt: str
    negative_prompt: str = ""
    model: str | None = None
    model_path: str | None = None
    compat_class: str | None = None
    vae_path: str | None = None
    width: int = 512
    height: int = 512
    seed: int = 0
    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "euler"
    scheduler: str = "normal"
    clip_stop_at_layer: int | None = None
    variation_seed: int | None = None
    variation_strength: float = 0.0
    format: ImageFormat = ImageFormat()
    metadata: str | None = None
    previews: bool = True
    extra: dict[str, Any] = attrs.Factory(dict)
    vae: str | None = None
    init_image: bytes | None = attrs.field(default=None, repr=False)
    init_creativity: float = 0.6
    mask_image: bytes | None = attrs.field(default=None, repr=False)
    mask_blur: int = 0
    loras: tuple[LoraUse, ...] = ()
    forward_raw: bool = False


@attrs.frozen
class Progress:
    """A backend has done `step` of `steps` steps of a job."""

    step: int
    steps: int


@attrs.frozen
class Preview:
    """A rough look at a job that is under way: a PIL image, or the bytes of a JPEG."""

    image: Any


@attrs.frozen
class Output:
    """A finished picture: a PIL image, or a NumPy array of height x width x 3, uint8 (uint16 for 16 bits a channel)."""

    image: Any


@attrs.frozen
class RawFrame:
    """What the engine behind a backend said, as it said it, for clients that know that engine. `kind` names its protocol."""

    kind: str
    data: bytes


@attrs.frozen
class EncodedPreview:
    """A preview as it travels from the worker: bytes, and what they are."""

    data: bytes
    media_type: str = "image/jpeg"


@attrs.frozen
class EncodedOutput:
    """A finished picture as it travels from the worker.

    `metadata` is the job's text with the generation time, whether or not it is in the file too.
    `thumbnail` is a small JPEG, made where the pixels are at hand.
    """

    data: bytes
    media_type: str = "image/png"
    extension: str = "png"
    metadata: str | None = None
    thumbnail: bytes | None = None
