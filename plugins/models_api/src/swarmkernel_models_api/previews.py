"""Pictures of models: beside the model, or in its metadata."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import attrs

from swarmkernel_models_api.errors import ModelFileError
from swarmkernel_models_api.formats import image_type
from swarmkernel_models_api.headers import open_regular, read_header
from swarmkernel_models_api.metadata import MAX_PREVIEW, read_thumbnail, stated
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


def read_preview(model: Model) -> Preview | None:
    """The model's picture, or None if it has none that a browser may show. Reads files: call it in a thread."""
    try:
        data = _embedded(model) if model.embedded_preview else _beside(model)
    except (OSError, ModelFileError):
        return None
    media_type = image_type(data) if data else None
    return Preview(data, media_type) if data and media_type else None


def data_urls(models: Iterable[Model]) -> dict[str, str]:
    """The pictures of *models* by name, as `data:` URLs, until together they would be too much for one answer."""
    urls: dict[str, str] = {}
    total = 0
    for model in models:
        preview = read_preview(model) if model.preview or model.embedded_preview else None
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


def _beside(model: Model) -> bytes | None:
    if model.preview is None:
        return None
    with open_regular(model.preview) as file:
        data = file.read(MAX_PREVIEW + 1)
    return data if len(data) <= MAX_PREVIEW else None


def _embedded(model: Model) -> bytes | None:
    is_plain = model.is_folder or model.metadata.special_format == "gguf"
    header = {} if is_plain else read_header(model.path).metadata
    url = read_thumbnail(stated(header, model.sidecars)) or ""
    try:
        return base64.b64decode(url.partition(";base64,")[2], validate=True)
    except (binascii.Error, ValueError):
        return None
