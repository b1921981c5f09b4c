"""Decoding pictures of others apart from the server."""

import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from liar import png
from PIL import Image

from swarmkernel_backends_remote import pictures
from swarmkernel_backends_remote.decoding import MAX_BYTES, REFUSED, answer, read_answer
from swarmkernel_backends_remote.errors import PeerError

DECODES = """
import asyncio, sys
from swarmkernel_backends_remote.pictures import made_grey, picture
data = sys.stdin.buffer.read()
assert asyncio.run(picture(data, 100)).getpixel((0, 0)) == (1, 2, 3)
print([name for name in sys.modules if name.startswith("PIL.") and name.endswith("ImagePlugin")])
"""


def file_of(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def test_the_server_decodes_nothing() -> None:
    """A picture's pixels come without its decoder having been loaded into the process that wants them."""
    given = file_of(Image.new("RGB", (2, 3), (1, 2, 3)), "PNG")
    ran = subprocess.run([sys.executable, "-c", DECODES], input=given, capture_output=True, check=True)
    assert b"[]" == ran.stdout.strip()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("L", "PNG"),
        ("RGB", "JPEG"),
        ("RGBA", "PNG"),
        ("I;16", "PNG"),
        ("P", "GIF"),
        ("LA", "PNG"),
        ("RGB", "WEBP"),
    ],
)
async def test_every_kind(mode: str, kind: str) -> None:
    """Pictures of every kind come as they are, or in colours where their pixels mean something else."""
    image = Image.new(mode, (5, 4))
    found = await pictures.picture(file_of(image, kind), 20)
    as_it_is = {"P": "RGB", "LA": "RGBA"}.get(mode, mode)
    assert (as_it_is, (5, 4)) == (found.mode, found.size)
    assert image.convert(as_it_is).tobytes() == found.tobytes()


async def test_masks_of_16_bits() -> None:
    """A mask of 16 bits has the brightness that it shows, and is not cut off."""
    levels = Image.fromarray(np.array([[0, 32896, 65535]], np.uint16))
    found = Image.open(io.BytesIO(await pictures.made_grey(file_of(levels, "PNG"))))
    assert ("L", [0, 128, 255]) == (found.mode, list(found.tobytes()))


def test_a_process_that_dies() -> None:
    """Whoever decodes may be killed: the next picture is decoded by another."""
    killed = set()
    for _ in range(3):
        assert (4, 4) == pictures._decoded(png(4, 4), 16).size
        killed.add(pictures._OWN.aside._process.pid)
        os.kill(pictures._OWN.aside._process.pid, signal.SIGKILL)
    assert 3 == len(killed)


async def test_refusals() -> None:
    """What is too large, as a file, in pixels or in bytes of them, is refused with its size."""
    with pytest.raises(PeerError, match="5x4 pixels"):
        await pictures.picture(png(5, 4), 19)
    with pytest.raises(PeerError, match="more than 48 MiB"):
        await pictures.picture(b"\x89PNG" + bytes(pictures.MAX_FILE), 19)
    with pytest.raises(PeerError, match="cannot be read"):
        await pictures.picture(b"no picture", 19)
    with pytest.raises(PeerError, match="The mask cannot be read"):
        await pictures.made_grey(b"no picture")


def test_answers_are_bounded() -> None:
    """A picture whose pixels would not fit into an answer is refused, and an answer of another length is none."""
    side = int((MAX_BYTES / 3) ** 0.5) + 1
    large = answer(pictures.QUESTION.pack(False, pictures.MAX_PIXELS) + png(side, side))
    assert REFUSED == large[:1]
    assert "too large" in read_answer(large)
    made = answer(pictures.QUESTION.pack(False, 100) + png(4, 4))
    assert (4, 4) == read_answer(made).size
    with pytest.raises(ValueError, match="RGB"):
        read_answer(made + b"x")
