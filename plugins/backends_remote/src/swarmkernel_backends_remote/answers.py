"""What another server says, taken with care: it may be long, deep, garbage, or repeat our own secrets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

from swarmkernel_backends_remote.errors import PeerError

#: A JSON answer of more values than this is not taken apart: each costs many times its length in memory.
MAX_VALUES: Final = 1_000_000
MAX_TEXT: Final = 500
MAX_NAME: Final = 300
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONG: Final = 1 << 18
_ERROR_ID: Final = re.compile("[a-z][a-z0-9_]{0,39}")


async def read_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object in an answer; PeerError if there is none. A long answer is read in a thread."""
    return await asyncio.to_thread(_read, data) if len(data) > _LONG else _read(data)


def _read(data: bytes | str) -> dict[str, Any]:
    raw = data.encode() if isinstance(data, str) else data
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise PeerError("The other server's answer has too many values.")
    try:
        value = orjson.loads(raw)
    except ValueError:
        raise PeerError("The other server's answer is not JSON.") from None
    if not isinstance(value, dict):
        raise PeerError("The other server's answer is not a JSON object.")
    return value


def text(value: object, most: int = MAX_TEXT) -> str:
    """A text of another server in one line that may be shown and logged; empty if it is none."""
    if not isinstance(value, str):
        return ""
    line = " ".join(value[: 4 * most].split())
    return "".join(letter for letter in line if letter.isprintable())[:most]


def name(value: object) -> str | None:
    """A name that the other server must be told exactly as it is, or None."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or _CONTROL.search(value):
        return None
    return value


def whole(value: object, least: int, most: int) -> int | None:
    """A whole number between two others, or None."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and least <= value <= most else None  # type: ignore[operator,return-value]


def fraction(value: object) -> float:
    """How far something is, from 0 to 1."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return min(1.0, max(0.0, float(value))) if is_number else 0.0  # type: ignore[arg-type]


def without(secrets: Iterable[str], said: str) -> str:
    """A text without secrets of ours that the other server may have repeated."""
    for secret in secrets:
        said = said.replace(secret, "(hidden)")
    return said


def error_id(value: object) -> str | None:
    """An error id as clients know them, or None."""
    return value if isinstance(value, str) and _ERROR_ID.fullmatch(value) else None
