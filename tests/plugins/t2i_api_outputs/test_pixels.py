"""What a file holds: pixels, metadata, resolution; the same every time."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from swarmkernel_t2i_api import ImageFormat
from swarmkernel_t2i_api.outputs import media
from swarmkernel_t2i_api.outputs import pixels as px
from swarmkernel_t2i_api.outputs.read import MAX_TEXT_BYTES, read_metadata
from swarmkernel_t2i_api.outputs.stealth import hide, reveal

TEXT = json.dumps({"sui_image_params": {"prompt": "grüße 🎨 " * 9, "seed": 1}}, indent=2, ensure_ascii=False)
KINDS = ("PNG", "JPG", "WEBP", "WEBP_LOSSLESS")


def opened(data: bytes) -> Image.Image:
    """The picture in `data`, decoded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_comes_back(kind, pixels):
    """Every format carries its metadata, with letters beyond ASCII and beyond the basic plane."""
    data, media_type, extension = px.encode_picture(pixels, ImageFormat(kind=kind), TEXT)

    assert media.media_type_of(f"x.{extension}") == media_type
    assert json.loads(TEXT) == json.loads(read_metadata(data))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stealth", ["false", "Alpha", "RGB"])
def test_same_input_same_bytes(kind, stealth, pixels):
    """The same pixels, format and metadata give the same bytes, whether from an array or an image."""
    form = ImageFormat(kind=kind, stealth=stealth, dpi=300)

    assert px.encode_picture(pixels, form, TEXT) == px.encode_picture(Image.fromarray(pixels), form, TEXT)


@pytest.mark.parametrize("kind", ["PNG", "WEBP_LOSSLESS"])
def test_lossless_formats_keep_every_pixel(kind, pixels):
    """PNG and lossless WEBP give back exactly the pixels that went in."""
    data, _, _ = px.encode_picture(pixels, ImageFormat(kind=kind), TEXT)

    assert np.array_equal(pixels, np.asarray(opened(data)))


def test_png_chunk_is_plain_text(pixels):
    """The PNG holds one uncompressed `tEXt` chunk `parameters`, in ASCII, before the pixels."""
    data, _, _ = px.encode_picture(pixels, ImageFormat(), TEXT)
    start = data.index(b"tEXtparameters\0") + len(b"tEXtparameters\0")

    assert start < data.index(b"IDAT")
    assert json.loads(TEXT) == json.loads(data[start : data.index(b"}\n}", start) + 3].decode("ascii"))


def test_exif_comment_is_utf16(pixels):
    """JPEG keeps its text as EXIF `UserComment` with the Unicode prefix, in UTF-16."""
    data, _, _ = px.encode_picture(pixels, ImageFormat(kind="JPG"), TEXT)
    comment = opened(data).getexif().get_ifd(0x8769)[0x9286]

    assert b"UNICODE\0" + TEXT.encode("utf-16-le") == comment


def test_swapped_comment_is_understood(pixels):
    """A UserComment in the other byte order is read all the same."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + TEXT.encode("utf-16-be")
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif)

    assert read_metadata(stream.getvalue()) == TEXT


@pytest.mark.parametrize("keyword", ["parameters", "Parameters", "PARAMETERS"])
def test_keyword_in_any_case(keyword, pixels):
    """Other programs' spelling of the PNG keyword is read too."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(keyword, "text of another program", zip=True)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=info)

    assert read_metadata(stream.getvalue()) == "text of another program"


@pytest.mark.parametrize(
    ("kind", "stealth", "survives"),
    [
        ("PNG", "Alpha", True),
        ("PNG", "RGB", True),
        ("WEBP_LOSSLESS", "Alpha", True),
        ("WEBP_LOSSLESS", "RGB", True),
        ("WEBP", "Alpha", True),
        ("WEBP", "RGB", False),
        ("JPG", "RGB", False),
    ],
)
def test_stealth_text_survives_where_pixels_do(kind, stealth, survives, pixels):
    """Text hidden in the pixels is found again in every format that keeps those bits, and left out elsewhere."""
    text = json.dumps({"prompt": "a cat"})
    data, _, _ = px.encode_picture(pixels, ImageFormat(kind=kind, stealth=stealth), text)

    assert (text if survives else None) == reveal(opened(data), MAX_TEXT_BYTES)


def test_stealth_layout_is_the_published_one():
    """Bits run down the columns: signature, length in bits (big-endian), gzip; pixels change by one at most."""
    image = Image.new("RGB", (40, 60), (100, 100, 100))
    hidden = hide(image, "hello", "RGB")
    bits = (np.asarray(hidden).transpose(1, 0, 2).reshape(-1) & 1).astype(np.uint8)
    data = np.packbits(bits).tobytes()

    assert data.startswith(b"stealth_rgbcomp")
    assert data[19:21] == b"\x1f\x8b"
    assert np.abs(np.asarray(hidden).astype(int) - 100).max() <= 1


def test_small_pictures_hide_nothing():
    """A picture with fewer bits than the text needs stays as it was."""
    image = Image.new("RGB", (8, 8))

    assert hide(image, TEXT, "RGB") is image


def test_stealth_is_read_when_nothing_else_is_there(pixels):
    """A re-saved PNG that lost its chunk still gives its metadata."""
    data, _, _ = px.encode_picture(np.tile(pixels, (2, 2, 1)), ImageFormat(stealth="Alpha"), TEXT)
    bare = io.BytesIO()
    Image.fromarray(np.asarray(opened(data))).save(bare, "PNG")

    assert read_metadata(bare.getvalue()) == TEXT


def test_gzip_bombs_stay_small(pixels):
    """Hidden text that unpacks to more than the limit is cut there."""
    big = Image.fromarray(np.tile(pixels, (16, 16, 1)))
    hidden = hide(big, "x" * 20_000_000, "RGB")

    assert len(reveal(hidden, 1000)) == 1000


def test_embed_false_leaves_no_trace(pixels):
    """Without `embed`, the metadata is neither in the file nor in its pixels."""
    data, _, _ = px.encode_picture(pixels, ImageFormat(embed=False, stealth="RGB"), TEXT)

    assert read_metadata(data) is None


def test_maker_notes_do_not_leak(pixels):
    """What a PIL image carries in `info` (comments, profiles) is not written."""
    image = Image.fromarray(pixels)
    image.info = {"comment": b"secret", "dpi": (1, 1), "icc_profile": b"secret", "exif": b"Exif\0\0secret"}

    for kind in KINDS:
        assert b"secret" not in px.encode_picture(image, ImageFormat(kind=kind), None)[0]


@pytest.mark.parametrize("kind", ["PNG", "JPG"])
def test_dpi(kind, pixels):
    """The resolution is written if asked for, and left out otherwise."""
    with_dpi, _, _ = px.encode_picture(pixels, ImageFormat(kind=kind, dpi=300), None)
    without, _, _ = px.encode_picture(pixels, ImageFormat(kind=kind), None)

    assert [300, 300] == [round(value) for value in opened(with_dpi).info["dpi"]]
    assert "dpi" not in opened(without).info


def test_quality_counts(pixels):
    """A lower quality makes a smaller JPEG and a smaller WEBP."""
    for kind in ("JPG", "WEBP"):
        sizes = [len(px.encode_picture(pixels, ImageFormat(kind=kind, quality=q), None)[0]) for q in (10, 95)]
        assert sizes[0] < sizes[1]


def test_sixteen_bits(pixels):
    """A uint16 array becomes a 16-bit PNG with metadata if asked, and an 8-bit picture otherwise."""
    deep = pixels.astype(np.uint16) * 257
    data, _, _ = px.encode_picture(deep, ImageFormat(color_depth=16, dpi=96), TEXT)
    flat, _, _ = px.encode_picture(deep, ImageFormat(), TEXT)

    assert data[24] == 16
    assert flat[24] == 8
    assert np.array_equal(pixels, np.asarray(opened(data).convert("RGB")))
    assert np.array_equal(pixels, np.asarray(opened(flat)))
    assert json.loads(TEXT) == json.loads(read_metadata(data))


def test_pictures_too_wide_for_webp_become_png():
    """A picture that WEBP cannot hold is not lost."""
    _, media_type, extension = px.encode_picture(
        np.zeros((1, 16_384, 3), np.uint8), ImageFormat(kind="WEBP"), None
    )

    assert ("image/png", "png") == (media_type, extension)


@pytest.mark.parametrize("length", [31_999, 40_000, 200_000])
def test_long_text_never_fails_a_picture(length, pixels):
    """Metadata that a JPEG cannot hold is left to a sidecar; the picture is encoded all the same."""
    text = "x" * length
    for kind in KINDS:
        data, _, extension = px.encode_picture(pixels, ImageFormat(kind=kind), text)
        assert (text if media.embeds(extension, text) else None) == read_metadata(data)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "1", "I", "F", "YCbCr"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_pil_mode(mode, kind):
    """A PIL image of any mode can be an output."""
    assert px.encode_picture(Image.new(mode, (16, 16)), ImageFormat(kind=kind), "{}")[0]


@pytest.mark.parametrize(
    "source",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), "x", None],
)
def test_what_is_no_picture_is_refused(source):
    """Anything but a PIL image or a fitting array is refused with what it was."""
    with pytest.raises((TypeError, ValueError), match="an output"):
        px.to_image(source)


@pytest.mark.parametrize(
    ("size", "expected"), [((1024, 512), (512, 256)), ((100, 80), (100, 80)), ((9000, 300), (2048, 68))]
)
def test_thumbnails(size, expected):
    """A thumbnail is a JPEG with a shorter side of 256, never enlarged, and never very long."""
    small = opened(px.thumbnail(Image.new("RGB", size)))

    assert ("JPEG", expected) == (small.format, small.size)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"GIF89a"]
)
def test_broken_files_have_no_metadata(data):
    """Broken, foreign and truncated files have no metadata, and raise nothing."""
    assert read_metadata(data) is None


def test_truncated_and_flipped_files_never_raise(pixels):
    """A file damaged anywhere gives some text or none, and never an exception."""
    rng = np.random.default_rng(5)
    for kind in KINDS:
        data, _, _ = px.encode_picture(pixels, ImageFormat(kind=kind, stealth="RGB"), TEXT)
        for cut in rng.integers(0, len(data), 25):
            flipped = bytearray(data)
            flipped[cut] ^= 0xFF
            assert isinstance(read_metadata(data[:cut]), str | None)
            assert isinstance(read_metadata(bytes(flipped)), str | None)
