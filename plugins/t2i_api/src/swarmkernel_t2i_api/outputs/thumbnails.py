"""Thumbnails of outputs that have none yet."""

from __future__ import annotations

import asyncio
import io
import logging

import attrs

from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.outputs.safe_paths import open_file

log = logging.getLogger(__name__)

#: At most so many are made at a time, of pictures with at most so many pixels.
AT_ONCE = 2
MAX_PIXELS = 128_000_000
_MAKEABLE = frozenset({"png", "jpg", "jpeg", "webp", "gif"})


@attrs.define(eq=False)
class Thumbnails:
    """Makes thumbnails on demand, a few at a time, in threads."""

    outputs: Outputs
    _turns: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(AT_ONCE), init=False)

    async def make(self, parts: tuple[str, ...]) -> bytes | None:
        """The thumbnail (a JPEG) of the output at `parts`, kept for the next time; None if it cannot have one.

        Raises FileNotFoundError if there is no such output.
        """
        if parts[-1].rpartition(".")[2].lower() not in _MAKEABLE:
            return None
        async with self._turns:
            data = await asyncio.to_thread(self._make, parts)
        if data is not None:
            await self.outputs.save_thumbnail(parts, data)
        return data

    def _make(self, parts: tuple[str, ...]) -> bytes | None:
        with io.BufferedReader(open_file(self.outputs.root, parts)) as file:
            try:
                return _thumbnail(file)
            except Exception as error:  # noqa: BLE001  # a damaged file makes decoders raise nearly anything
                log.warning("no thumbnail can be made of %s: %s", "/".join(parts), error)
                return None


def _thumbnail(file: io.BufferedIOBase) -> bytes:
    from PIL import Image  # noqa: PLC0415

    from swarmkernel_t2i_api.outputs.pixels import THUMBNAIL_SIDE, thumbnail  # noqa: PLC0415

    with Image.open(file, formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        # Lets the JPEG decoder skip most of the work.
        image.draft("RGB", (2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE))
        return thumbnail(image)
