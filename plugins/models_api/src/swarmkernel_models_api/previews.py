"""Pictures of models: beside the model, or in its metadata."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs

from swarmkernel_models_api.errors import ModelFileError
from swarmkernel_models_api.formats import image_type
from swarmkernel_models_api.headers import read_header
from swarmkernel_models_api.metadata import MAX_PREVIEW, read_thumbnail, stated
from swarmkernel_models_api.opening import open_regular
from swarmkernel_models_api.types import Model

#: What the original's clients show where there is no picture; they have these files themselves.
PLACEHOLDER: Final = "imgs/model_placeholder.jpg"
LEGACY_PLACEHOLDER: Final = "imgs/legacy_ckpt.jpg"

#: Bytes of pictures in one answer.
MAX_TOTAL: Final = 64 * 1024 * 1024


@attrs.frozen
class Preview:
    """A picture that a browser may show; the type is judged by the bytes."""

    data: bytes
    media_type: str

    @property
    def data_url(self) -> str:
        """The picture as a `data:` URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


@attrs.frozen
class Embedded:
    """Where the metadata of a model are that a picture is in."""

    header: Path | None
    sidecars: tuple[Path, ...]

    @classmethod
    def of(cls, model: Model) -> Embedded:
        """Those of *model*: its file if it is one of safetensors, and the files beside it."""
        is_plain = model.is_folder or model.metadata.special_format == "gguf"
        return cls(None if is_plain else model.path, model.sidecars)


def embedded_picture(source: Embedded) -> bytes:
    """The picture in a model's metadata; empty if there is none."""
    try:
        header = read_header(source.header).metadata if source.header else {}
        url = read_thumbnail(stated(header, source.sidecars)) or ""
        return base64.b64decode(url.partition(";base64,")[2], validate=True)
    except (OSError, ModelFileError, ValueError, MemoryError):
        return b""


def picture_beside(model: Model) -> bytes:
    """The picture in a file beside a model; empty if there is none."""
    if model.preview is None:
        return b""
    try:
        with open_regular(model.preview) as file:
            data = file.read(MAX_PREVIEW + 1)
    except (OSError, ModelFileError):
        return b""
    return data if len(data) <= MAX_PREVIEW else b""


def shown(data: bytes) -> Preview | None:
    """A picture, if it is one that a browser may show."""
    media_type = image_type(data)
    return Preview(data, media_type) if media_type else None


def data_urls(models: Iterable[Model], read: Callable[[Model], Preview | None]) -> dict[str, str]:
    """The pictures of *models* by name, as `data:` URLs, until together they would be too much for one answer."""
    urls: dict[str, str] = {}
    total = 0
    for model in models:
        preview = read(model) if model.preview or model.embedded_preview else None
        if preview is None:
            continue
        total += len(preview.data)
        if total > MAX_TOTAL:
            break
        urls[model.name] = preview.data_url
    return urls


def preview_url(model: Model) -> str:
    """Where a client finds the model's picture; the number changes when the picture may have."""
    if not (model.embedded_preview or model.preview):
        return PLACEHOLDER if model.is_supported else LEGACY_PLACEHOLDER
    return f"/ViewSpecial/{model.kind}/{quote(model.name)}?editid={int(model.stamp[:8], 16)}"
