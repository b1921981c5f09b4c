"""The output folder: pictures go in whole or not at all."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import attrs

from swarmkernel_t2i_api.outputs.clean import clean_user_id
from swarmkernel_t2i_api.outputs.durable import publish, replace, staged, sweep, withdraw
from swarmkernel_t2i_api.outputs.errors import OutputError
from swarmkernel_t2i_api.outputs.media import embeds
from swarmkernel_t2i_api.outputs.paths import PathFacts, PathRules, fill_path, names
from swarmkernel_t2i_api.outputs.safe_paths import folder, sync_folder
from swarmkernel_t2i_api.types import EncodedOutput

log = logging.getLogger(__name__)

SIDECAR = "swarm.json"
THUMBNAIL = "swarmpreview.jpg"
ANIMATED_THUMBNAIL = "swarmpreview.webp"

#: Of a small disk, this share stays free rather than the configured number of bytes.
_FREE_SHARE = 0.05


@attrs.define(eq=False)
class Outputs:
    """The pictures that this server keeps, below `root`.

    `append_user` gives each user a folder, and URLs under `View/` instead of `Output/`.
    Below `min_free` bytes of free disk (or 5 % of a small disk) nothing is saved any more, so that the rest of the
    server can go on.
    """

    root: Path
    append_user: bool = True
    min_free: int = 2 * 1024**3
    _naming: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    async def start(self) -> None:
        """Make the folder, prove that it can be written to, and clear away what a crash left in it."""
        await asyncio.to_thread(self._start)

    async def check_room(self) -> None:
        """Raise OutputError (`disk_full`) while there is too little free disk to save anything."""
        await asyncio.to_thread(self._check_root)

    async def save(
        self,
        output: EncodedOutput,
        rules: PathRules,
        facts: PathFacts,
        *,
        embed: bool = True,
        text_file: bool = False,
    ) -> str:
        """Save a picture for `facts.user_id` and return its URL, which exists from then on, come what may.

        Metadata that the format cannot carry goes into a file beside it, as does any with `text_file`;
        without `embed` none is kept at all.
        Raises OutputError, and then nothing of the picture is left.
        """
        sidecar = _sidecar(output, text_file=text_file) if embed else None
        return await asyncio.to_thread(self._save, output, rules, facts, sidecar)

    async def save_thumbnail(self, parts: tuple[str, ...], data: bytes) -> None:
        """Keep the thumbnail of the output at `parts` (below the root, extension included), if that is possible."""
        await asyncio.to_thread(self._save_thumbnail, parts, data)

    def user_parts(self, user_id: str) -> tuple[str, ...]:
        """The folders from the root to a user's own outputs."""
        return (clean_user_id(user_id),) if self.append_user else ()

    async def set_aside(self, user_id: str) -> None:
        """
        Rename the folder of a user who is gone to a name that no user can have, for the operator to look through.

        Where users share one folder, their pictures stay as they are.
        """
        if self.append_user:
            await asyncio.to_thread(self._set_aside, clean_user_id(user_id))

    def _set_aside(self, user: str) -> None:
        try:
            with folder(self.root) as top:
                os.rename(user, f"{user}.deleted-{time.time_ns()}", src_dir_fd=top, dst_dir_fd=top)
                os.fsync(top)
        except FileNotFoundError:
            pass  # the user made none
        except OSError as error:
            raise OutputError.of(error) from error

    def _start(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with folder(self.root) as top, staged(top, b"probe"):
                pass
            sweep(self.root)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"the output folder {self.root} cannot be used: {reason}; "
                "the server needs to read, write and search there"
            ) from error

    def _check_root(self) -> None:
        try:
            with folder(self.root) as top:
                self._require_room(top)
        except OSError as error:
            raise OutputError.of(error) from error

    def _save(self, output: EncodedOutput, rules: PathRules, facts: PathFacts, sidecar: bytes | None) -> str:
        user = self.user_parts(facts.user_id)
        *folders, leaf = fill_path(rules, facts)
        try:
            with folder(self.root, (*user, *folders), create=True) as place:
                self._require_room(place)
                name = self._write(place, leaf, output, sidecar)
        except OSError as error:
            raise OutputError.of(error) from error
        return "/".join(("View" if self.append_user else "Output", *user, *folders, name))

    def _write(self, place: int, leaf: str, output: EncodedOutput, sidecar: bytes | None) -> str:
        contents = {} if sidecar is None else {SIDECAR: sidecar}
        contents[output.extension] = output.data
        base = None
        try:
            with ExitStack() as stack:
                files = {end: stack.enter_context(staged(place, data)) for end, data in contents.items()}
                base = self._publish(place, leaf, files)
            sync_folder(place)
        except OSError:
            withdraw(place, [f"{base}.{end}" for end in contents] if base else [])
            raise
        name = f"{base}.{output.extension}"
        if output.thumbnail is not None:
            _keep_thumbnail(place, name, output.thumbnail)
        return name

    def _publish(self, place: int, leaf: str, files: dict[str, str]) -> str:
        """Give the staged `files` (extension to temporary name) the first free name, all or none of them."""
        with self._naming:
            taken = {name.partition(".")[0].casefold() for name in os.listdir(place)}
            for base in names(leaf):
                if base.casefold() not in taken and publish(place, base, files):
                    return base
        raise AssertionError("names never end")

    def _require_room(self, place: int) -> None:
        disk = os.fstatvfs(place)
        needed = min(self.min_free, int(disk.f_blocks * disk.f_frsize * _FREE_SHARE))
        if disk.f_bavail * disk.f_frsize < needed:
            raise OutputError(
                "the disk of the output folder is nearly full, so nothing was saved", "disk_full"
            )

    def _save_thumbnail(self, parts: tuple[str, ...], data: bytes) -> None:
        try:
            with folder(self.root, parts[:-1]) as place:
                self._require_room(place)
                _keep_thumbnail(place, parts[-1], data)
        except (OSError, OutputError) as error:
            log.warning("no thumbnail was kept for %s: %s", "/".join(parts), error)


def beside(name: str, suffix: str) -> str:
    """The name of the file that belongs to the output `name`: `cat.png` has its thumbnail in `cat.swarmpreview.jpg`."""
    return f"{name.rpartition('.')[0]}.{suffix}"


def _sidecar(output: EncodedOutput, *, text_file: bool) -> bytes | None:
    """What to write beside `output`: its metadata, if it cannot carry that, or if wanted (a WEBP always carries it)."""
    text, extension = output.metadata, output.extension
    if text is None or (embeds(extension, text) and not (text_file and extension != "webp")):
        return None
    return text.encode("utf-8", "surrogatepass")


def _keep_thumbnail(place: int, name: str, data: bytes) -> None:
    """Thumbnails can be made again, so a failure costs nobody their picture."""
    try:
        with staged(place, data) as temporary:
            replace(place, temporary, beside(name, THUMBNAIL))
    except OSError as error:
        log.warning("the thumbnail of %s could not be saved: %s", name, error)
