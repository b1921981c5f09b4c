"""Pictures of presets."""

import base64
import struct
from io import BytesIO

import pytest
from PIL import Image

from swarmkernel_basic_api.pictures import PREFIX, PictureError, Pictures, data_uri, thumbnail


def encoded(width, height, kind="JPEG", **options):
    """Return a data URI that says JPEG, whatever the *kind*."""
    out = BytesIO()
    Image.new("RGB", (width, height), "red").save(out, kind, **options)
    return PREFIX + base64.b64encode(out.getvalue()).decode()


def comment(picture):
    """Return the text that is stored in a picture, or None."""
    raw = Image.open(BytesIO(picture)).getexif().get_ifd(0x8769).get(0x9286)
    return raw.removeprefix(b"UNICODE\0").decode("utf-16-le") if raw else None


@pytest.mark.parametrize(
    ("expected", "size"),
    [((256, 512), (300, 600)), ((256, 256), (64, 64)), ((512, 256), (4000, 2000)), ((2048, 2), (4000, 4))],
)
def test_size(expected, size):
    """The shorter side becomes 256 pixels, and the longer one never more than 2048."""
    image = Image.open(BytesIO(thumbnail(encoded(*size), None)))

    assert expected == image.size
    assert "JPEG" == image.format
    assert image.getpixel((0, 0))[0] > 240


def test_metadata_is_stored():
    """The text that was given is stored in the picture; without one, that of the original is kept."""
    first = thumbnail(encoded(300, 300), "seed 5 – 絵")
    again = thumbnail(data_uri(first), None)

    assert "seed 5 – 絵" == comment(first)
    assert "seed 5 – 絵" == comment(again)


def test_nothing_else_of_the_original_is_kept():
    """Camera and place of the original do not come along."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825)[1] = "N"
    picture = thumbnail(encoded(300, 300, exif=exif), None)

    kept = Image.open(BytesIO(picture)).getexif()
    assert b"Camera" not in picture
    assert {} == kept.get_ifd(0x8825)


def _bomb():
    """Return a JPEG whose header claims 60000 by 60000 pixels."""
    raw = bytearray(base64.b64decode(encoded(16, 16).removeprefix(PREFIX)))
    start = raw.index(b"\xff\xc0") + 5
    raw[start : start + 4] = struct.pack(">HH", 60000, 60000)
    return PREFIX + base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    "uri",
    [
        "hello",
        "/Output/raw/x.png",
        "data:image/png;base64,AAAA",
        PREFIX + "not base64!",
        PREFIX,
        PREFIX + base64.b64encode(b"\xff\xd8\xff\xe0junk").decode(),
        encoded(10, 10, "PNG"),
        encoded(300, 300)[:-400],
        _bomb(),
    ],
)
def test_refused(uri):
    """What is not a whole JPEG of reasonable size is refused with one kind of error."""
    with pytest.raises(PictureError):
        thumbnail(uri, None)


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        (None, None),
        (None, " "),
        (None, "/ViewSpecial/Preset/x?editid=4"),
        (b"", "imgs/model_placeholder.jpg"),
    ],
)
async def test_nothing_given(expected, given):
    """No picture and our own URL keep what there was; the placeholder's name takes it away."""
    assert expected == await Pictures().read(given, None)


def test_too_many_pixels():
    """A whole JPEG with more pixels than the limit is refused before it is decoded, and the error says why."""
    with pytest.raises(PictureError, match="more than 32000000 pixels"):
        thumbnail(encoded(8000, 4001), None)
