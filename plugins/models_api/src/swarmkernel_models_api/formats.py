"""What a file is, judged by its content and never by its name."""

from __future__ import annotations

from typing import Final, Literal

from swarmkernel_models_api.headers import MAX_HEADER

FileFormat = Literal["safetensors", "gguf", "pickle", "unknown"]

#: Files with these endings are listed.
LISTED: Final = (".safetensors", ".sft", ".gguf", ".engine", ".ckpt", ".pt", ".pth", ".bin")

#: Bytes that `sniff` wants to see.
HEAD: Final = 265

#: A program in the file runs when a file of this format is opened.
_PROGRAMS: Final = (b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b")


def sniff(head: bytes, size: int) -> FileFormat:
    """The format of a file of *size* bytes that begins with *head* (its first `HEAD` bytes, or all of them).

    `pickle` stands for every format that can carry a pickle: bare ones, zip, 7z, gzip and tar archives.
    """
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= min(size - 8, MAX_HEADER):
        return "safetensors"
    if head.startswith(b"GGUF"):
        return "gguf"
    if head.startswith(_PROGRAMS) or head[257:262] == b"ustar" or _begins_as_pickle(head):
        return "pickle"
    return "unknown"


def _begins_as_pickle(head: bytes) -> bool:
    """A protocol mark of pickle 2 and later, or an opcode with which a pickle of protocol 0 or 1 builds its root."""
    return (head[:1] == b"\x80" and 2 <= int.from_bytes(head[1:2], "little") <= 5) or head[:1] in {
        b"(",
        b"c",
        b"]",
        b"}",
        b")",
    }


def image_type(data: bytes) -> str | None:
    """The media type of a picture that a browser may show, by its first bytes, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return None
