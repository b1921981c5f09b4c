"""Translations: ours, and those that the operator adds to the data directory."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import attrs

log = logging.getLogger(__name__)

_CODE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", re.IGNORECASE)
MAX_BYTES = 8 * 1024 * 1024


@attrs.frozen
class Language:
    """A language; *keys* are English texts and their translations, ``""`` where there is none."""

    code: str
    name: str
    local_name: str
    keys: Mapping[str, str]


@attrs.define
class Languages:
    """All languages by their codes, in the order of the alphabet."""

    _known: dict[str, Language]

    @classmethod
    def load(cls, folder: Path) -> "Languages":
        """Read our own files, then those in *folder*, which add to ours or replace their texts. Blocks."""
        known: dict[str, Language] = {}
        for source in (files("swarmkernel_basic_api") / "languages", folder):
            for language in _read_all(source):
                known[language.code] = _merged(known.get(language.code), language)
        return cls(dict(sorted(known.items())))

    def find(self, code: str) -> Language | None:
        """The language of exactly that *code*, or None."""
        return self._known.get(code)

    def __iter__(self) -> Iterator[Language]:
        return iter(self._known.values())


def _merged(old: Language | None, new: Language) -> Language:
    return attrs.evolve(new, keys={**old.keys, **new.keys}) if old else new


def _read_all(folder: Traversable) -> Iterator[Language]:
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        code, _, suffix = file.name.rpartition(".")
        if suffix != "json" or not _CODE.fullmatch(code):
            continue
        try:
            yield _language(code, json.loads(file.read_bytes()[:MAX_BYTES]))
        except (OSError, ValueError, RecursionError) as exc:
            log.warning("language file %s is left out: %s", file, exc)


def _language(code: str, content: Any) -> Language:
    """Check what a file holds; ValueError if it is no language."""
    match content:
        case {"name_en": str(name), "name_local": str(local_name), "keys": dict(keys)} if all(
            isinstance(text, str) for text in keys.values()
        ):
            return Language(code, name, local_name, keys)
    raise ValueError("it needs the texts name_en and name_local, and keys: an object of texts")
