"""File extensions, what they hold, and how it may be served."""

from __future__ import annotations

import base64

_MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "aac": "audio/aac",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
}
_INLINE = ("image/", "video/", "audio/")

#: Extensions whose files carry their metadata themselves.
EMBEDDING = frozenset({"png", "jpg", "webp"})
#: A JPEG's EXIF block holds 64 KiB, of which the text may take two bytes a character and the frame a little.
JPEG_TEXT_LIMIT = 32_000


def media_type_of(name: str) -> str:
    """The media type to serve the file `name` with, by our own table alone."""
    return _MEDIA_TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def is_inline(media_type: str) -> bool:
    """Whether a browser may show it; everything else is a download."""
    return media_type.startswith(_INLINE)


def embeds(extension: str, text: str) -> bool:
    """Whether a file with that extension can carry the metadata `text`; if not, it belongs in a sidecar."""
    return extension in EMBEDDING and not (extension == "jpg" and utf16_units(text) > JPEG_TEXT_LIMIT)


def utf16_units(text: str) -> int:
    """The length of `text` in UTF-16, in units of two bytes."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def data_url(media_type: str, data: bytes) -> str:
    """The data URL that stands for an output that is not saved."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
