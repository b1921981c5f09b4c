"""Text made fit to be a name in a path and in a URL."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

#: Bytes of one part of a path.
MAX_PART_BYTES = 200

# Beside what clients know to be dropped, the percent sign: these paths become URLs as they are.
_FORBIDDEN = frozenset('<>:"\\|?*~&@;#$^.%')
# Control, format, surrogate, private and unassigned characters; line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: What harms neither a file system nor a URL, so that an unsafe template may have it.
UNSAFE = frozenset(".~&@;$^")
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)


def clean_user_id(user_id: str) -> str:
    """`user_id` as the name of a folder."""
    return tidy_part(clean_text(user_id).replace("/", "").lower()) or "_"


def clean_text(text: str, kept: Collection[str] = ()) -> str:
    r"""`text` without the characters that names must not have, save those *kept*; `\` becomes `/`."""
    return "".join(letter for letter in text.replace("\\", "/") if letter in kept or _is_kept(letter))


def tidy_part(part: str) -> str:
    """One part of a path: trimmed of blanks and dots, at most `MAX_PART_BYTES` long, and not the name of a device."""
    return avoid_device(_trimmed(cut(_trimmed(part), MAX_PART_BYTES - 1)))


def _is_kept(letter: str) -> bool:
    return letter not in _FORBIDDEN and unicodedata.category(letter) not in _HIDDEN


def avoid_device(part: str) -> str:
    """`part`, or another name if some system takes it for a device, which it is whatever follows after a dot."""
    stem, dot, rest = part.partition(".")
    return f"{stem}_{dot}{rest}" if _DEVICE.fullmatch(stem) else part


def _trimmed(part: str) -> str:
    while part != (shorter := part.strip().strip(".")):
        part = shorter
    return part


def cut(text: str, limit: int) -> str:
    """As much of `text` as fits into `limit` bytes, without blanks at its end."""
    return text.encode()[:limit].decode(errors="ignore").rstrip()
