"""Finding models in folders."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from swarmkernel_models_api.diffusers_folders import INDEX, files_of
from swarmkernel_models_api.errors import ModelFileError
from swarmkernel_models_api.examine import Found
from swarmkernel_models_api.formats import LISTED
from swarmkernel_models_api.metadata import SIDECARS
from swarmkernel_models_api.opening import is_below
from swarmkernel_models_api.types import ModelFolder

log = logging.getLogger(__name__)

#: Bump when the same file would be described in another way than before.
_VERSION: Final = 2

_MAX_DEPTH: Final = 32

#: Control characters, and what Python makes of bytes that are not text.
_UNNAMEABLE: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

#: Endings of pictures beside a model, the first that exists is shown.
_PREVIEWS: Final = (
    ".swarm.jpg",
    ".jpg",
    ".png",
    ".preview.png",
    ".preview.jpg",
    ".jpeg",
    ".preview.jpeg",
    ".thumb.jpg",
    ".thumb.png",
    ".webp",
    ".preview.webp",
)

_Entries = Mapping[str, os.DirEntry[str]]


def scan(folders: Sequence[ModelFolder], roots: Iterable[Path] = ()) -> list[Found]:
    """Every model in *folders*, in their order. Reads folders only, no files; folders that do not exist are empty.

    A symbolic link is followed if it leads to somewhere below one of *folders* or of *roots*.
    """
    allowed = resolved(folders, roots)
    found: list[Found] = []
    for folder in folders:
        walk = _Walk(folder.kind, allowed)
        found.extend(walk.directory(folder.path, "", ()))
    return found


def resolved(folders: Iterable[ModelFolder], roots: Iterable[Path]) -> tuple[Path, ...]:
    """Where *folders* and *roots* really lie: no model lies elsewhere."""
    return tuple(dict.fromkeys(path.resolve() for path in (*(f.path for f in folders), *roots)))


@attrs.frozen
class _Walk:
    """The walk through one folder."""

    kind: str
    allowed: Iterable[Path]

    def directory(self, path: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[Found]:
        """The models in *path*, whose names begin with *prefix*; *above* identifies the directories that led here."""
        try:
            status = path.stat()
            with os.scandir(path) as listing:
                entries = {
                    entry.name: entry for entry in sorted(listing, key=lambda e: e.name) if _named(entry)
                }
        except OSError as exc:
            if not isinstance(exc, FileNotFoundError):
                log.warning("The model folder %s cannot be read: %s", path, exc.strerror)
            return
        here = (status.st_dev, status.st_ino)
        if here in above or len(above) > _MAX_DEPTH:
            return
        if INDEX in entries:
            yield from self._folder_model(path, prefix.rstrip("/") or path.name)
            return
        for name, entry in self._of_interest(entries).items():
            if not self._may_follow(entry):
                continue
            if entry.is_dir():
                yield from self.directory(path / name, f"{prefix}{name}/", (*above, here))
            elif name.lower().endswith(LISTED) and entry.is_file():
                yield from self._file_model(path / name, prefix, entries)

    def _of_interest(self, entries: _Entries) -> _Entries:
        """All entries; of a nunchaku folder, which is one model, the one file that stands for it."""
        whole = "transformer_blocks.safetensors"
        return {whole: entries[whole]} if whole in entries and "comfy_config.json" in entries else entries

    def _may_follow(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_symlink():
            return True
        try:
            target = Path(entry.path).resolve(strict=True)
        except (OSError, RuntimeError):
            return False
        inside = is_below(target, self.allowed)
        if not inside:
            log.warning(
                "%s is left out: it leads out of the model folders. Add its target to the roots.", entry.path
            )
        return inside

    def _file_model(self, path: Path, prefix: str, entries: _Entries) -> Iterator[Found]:
        stem = path.name.rsplit(".", 1)[0]
        sidecars = [entries[stem + end] for end in SIDECARS if self._usable(entries, stem + end)]
        preview = next((entries[stem + end] for end in _PREVIEWS if self._usable(entries, stem + end)), None)
        beside = [*sidecars, *([preview] if preview else [])]
        try:
            status = path.stat()
            parts = [_print(path.name, status), *(_print(e.name, e.stat()) for e in beside)]
        except OSError:
            return  # it went away in this moment
        yield Found(
            prefix + path.name,
            self.kind,
            path,
            _stamp(parts),
            status.st_mtime_ns // 1_000_000,
            _created(status),
            title=path.parent.name if "comfy_config.json" in entries else stem,
            sidecars=tuple(Path(e.path) for e in sidecars),
            preview=Path(preview.path) if preview else None,
        )

    def _usable(self, entries: _Entries, name: str) -> bool:
        return name in entries and self._may_follow(entries[name]) and entries[name].is_file()

    def _folder_model(self, path: Path, name: str) -> Iterator[Found]:
        beside = {end: path.with_name(path.name + end) for end in (*SIDECARS, *_PREVIEWS)}
        real = {end: other for end, other in beside.items() if other.is_file() and not other.is_symlink()}
        try:
            inside = sorted(files_of(path), key=lambda entry: entry.path)
            if not all(self._may_follow(entry) for entry in inside):
                return
            parts = [_print(e.path, e.stat()) for e in inside] + [
                _print(p.name, p.stat()) for p in real.values()
            ]
            status = (path / INDEX).stat()
        except OSError:
            return
        except ModelFileError:
            parts, status = [str(path.stat().st_mtime_ns)], path.stat()
        yield Found(
            name,
            self.kind,
            path,
            _stamp(parts),
            status.st_mtime_ns // 1_000_000,
            _created(status),
            is_folder=True,
            title=path.name,
            sidecars=tuple(real[end] for end in SIDECARS if end in real),
            preview=next((real[end] for end in _PREVIEWS if end in real), None),
        )


def _named(entry: os.DirEntry[str]) -> bool:
    """Whether a name can be shown: not hidden, no control characters, and text in the file system's encoding."""
    return not entry.name.startswith(".") and not _UNNAMEABLE.search(entry.name)


def _print(name: str, status: os.stat_result) -> str:
    return f"{name}:{status.st_mtime_ns}:{status.st_size}"


def _stamp(parts: Iterable[str]) -> str:
    text = "\n".join((str(_VERSION), *parts))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()


def _created(status: os.stat_result) -> int:
    seconds: float = getattr(status, "st_birthtime", status.st_ctime)
    return int(seconds * 1000)
