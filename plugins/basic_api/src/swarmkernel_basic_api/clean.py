"""The strict cleaner of names and paths, as clients of the API know it."""

import re
import unicodedata

_FORBIDDEN = frozenset('<>:"|?*~&@;#$^.')
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
_INVISIBLE = frozenset({"Cc", "Cf", "Cs"})  # control, zero-width and bidi marks, lone surrogates


def _kept(letter: str) -> bool:
    return letter not in _FORBIDDEN and unicodedata.category(letter) not in _INVISIBLE


def _safe(part: str) -> str:
    return f"{part}_" if _DEVICE.fullmatch(part) else part


def clean_path(text: str) -> str:
    """Make *text* a harmless relative path, with ``/`` between its parts. Dots are dropped."""
    kept = "".join(filter(_kept, text.replace("\\", "/")))
    parts = (part.strip() for part in kept.split("/"))
    return "/".join(_safe(part) for part in parts if part)
