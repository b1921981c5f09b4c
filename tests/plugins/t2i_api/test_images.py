"""Pictures that come with a request: read as far as their headers, and refused for what is wrong with them."""

import base64
import io
import struct
import tracemalloc

import pytest
from PIL import Image

from swarmkernel_t2i_api import Param
from swarmkernel_t2i_api.errors import ParamError
from swarmkernel_t2i_api.params.images import MAX_BYTES, image_size, read_image
from swarmkernel_t2i_api.params.values import read_value

EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def picture(kind="PNG", size=(3, 5), **options):
    """The file of a picture."""
    file = io.BytesIO()
    Image.new("RGB", size, (9, 99, 199)).save(file, kind, **options)
    return file.getvalue()


def url(data, media_type="image/png"):
    """The data URL of a file."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def png_of(width, height):
    """A PNG that is all header."""
    return PNG_HEAD + struct.pack(">II", width, height) + b"\x08\2\0\0\0\0\0\0\0" + b"\0\0\0\0IDAT"


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (1500, 2)])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PNG", {"exif": EXIF, "dpi": (300, 300)}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "exif": EXIF, "comment": b"x" * 999}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": EXIF}),
        ("GIF", {}),
        ("GIF", {"comment": b"x" * 999}),
    ],
)
def test_sizes(kind, options, size):
    """The header's size is found in every format, whatever else the file holds."""
    given = read_image(url(picture(kind, size, **options)))
    assert size == (given.width, given.height)


def test_spellings():
    """The bytes are those of the base64, be it a data URL of any declared type, with line breaks, or bare."""
    data = picture("JPEG")
    encoded = base64.b64encode(data).decode()
    for text in (
        url(data, "image/webp"),
        url(data).replace(",", ",\n "),
        encoded,
        "\n".join([encoded[:76], encoded[76:]]),
    ):
        assert data == read_image(text).data


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_animations(kind):
    """A picture of more than one frame is refused."""
    frames = [Image.new("RGB", (9, 9), (200, shade, 0)) for shade in (1, 120)]
    with pytest.raises(ValueError, match="animated"):
        image_size(picture(kind, (9, 9), save_all=True, append_images=frames, duration=50))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("../secret.png", "neither a data URL"),
        ("inputs/secret.png", "not base64"),
        ("/etc/passwd", "not base64"),
        ("data:image/png,abc", "neither a data URL"),
        (url(b"%PDF-1.4 and more"), "not a PNG, JPEG, WEBP or GIF"),
        (url(b"II*\0" + bytes(20)), "not a PNG, JPEG, WEBP or GIF"),
        (url(picture())[:-3], "not base64"),
        (url(picture()[:30]), "not a whole picture"),
        (url(picture("JPEG")[:40]), "not a whole picture"),
        (url(picture("WEBP")[:24]), "not a whole picture"),
        (url(picture("GIF")[:16]), "not a whole picture"),
        (url(png_of(0, 5)), "0 x 5 pixels"),
        (url(png_of(8000, 4001)), "8000 x 4001 pixels"),
        (url(png_of(2**32 - 1, 2**32 - 1)), "pixels"),
        (url(b"\xff\xd8\xff\xe0" + b"\0\2\xff\xe0" * 200_000), "not a whole picture"),
        (url(b"GIF89a\1\0\1\0\0\0\0\x21\xfe" + b"\1a" * 300_000), "too many blocks"),
    ],
    ids=lambda value: value[:40],
)
def test_refusals(text, reason):
    """What is no picture that a backend could take is refused, and the text says why."""
    with pytest.raises(ValueError, match=reason):
        read_image(text)


def test_pixels():
    """A picture of the most pixels is let through."""
    assert (8000, 4000) == image_size(png_of(8000, 4000))
    assert 8000 == read_image(url(png_of(8000, 4000))).width


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_cut_files(kind):
    """A file that ends anywhere, or holds any wrong byte, gives a size or a reason, and nothing else happens."""
    data = picture(kind, (40, 30))
    for at in range(min(len(data), 400)):
        for broken in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]):
            answer = answer_to(broken)
            assert isinstance(answer, tuple) or answer.startswith("it is")


def answer_to(data):
    """The size, or what is wrong."""
    try:
        return image_size(data)
    except ValueError as error:
        return str(error)


def test_length_comes_first():
    """A text that is too long is refused before anything is made of it."""
    text = "data:image/png;base64," + "A" * (MAX_BYTES * 4 // 3 + 1000)
    tracemalloc.start()
    try:
        with pytest.raises(ParamError, match="Picture: it is larger than 32 MiB"):
            read_value(Param("Picture", "image"), text, lambda _text, _kind: None)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
