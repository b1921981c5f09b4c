"""The picture that a job starts from: read, laid out for latents, and kept where a mask says so."""

import io
import struct

import attrs
import numpy as np
import pytest
from PIL import Image

from swarmkernel_backend_api import BackendError
from swarmkernel_t2i_api import ImageJob, LatentSampler
from swarmkernel_t2i_api.init_picture import InitPicture

JOB = ImageJob("1", "a cat", width=20, height=12, steps=10)


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def ramp(size=(20, 12)):
    """A picture whose every pixel is another."""
    across, down = np.meshgrid(np.arange(size[0]) * 12, np.arange(size[1]) * 20)
    return Image.fromarray(np.stack([across, down, 255 - across], axis=2).astype(np.uint8))


def box(size=(20, 12), kind="L"):
    """A mask that is white from the tenth column on."""
    levels = np.zeros(size[::-1], np.uint8)
    levels[:, size[0] // 2 :] = 255
    return Image.fromarray(levels).convert(kind)


def of(**job):
    return InitPicture.of(attrs.evolve(JOB, **job))


def test_from_noise():
    """A job without a picture starts from none."""
    assert None is of()


def test_files():
    """The picture and its mask are what their files show, upright, in any mode and stretched to the size asked for."""
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = [file_of(image.rotate(180), exif=exif) for image in (ramp(), box())]
    for image, mask in ((file_of(ramp()), file_of(box(kind="RGBA"), "WEBP", lossless=True)), turned):
        found = of(init_image=image, mask_image=mask)
        np.testing.assert_array_equal(np.asarray(ramp()), found.pixels)
        np.testing.assert_array_equal(np.asarray(box()), found.mask)
    large = of(init_image=file_of(ramp().resize((200, 60))), mask_image=file_of(box((100, 120))))
    assert ((12, 20, 3), (12, 20)) == (large.pixels.shape, large.mask.shape)
    assert (0, 255) == (large.mask[0, 0], large.mask[0, -1])
    assert of(init_image=file_of(ramp())).mask is None


def test_16_bits():
    """Greys of 16 bits are as bright as they show, in the picture and in its mask."""
    levels = np.full((12, 20), 65535, np.uint16)
    levels[:, :10], levels[:, 10:15] = 0, 32896
    found = of(init_image=(file := file_of(Image.fromarray(levels))), mask_image=file)
    assert [0, 128, 255] == list(found.mask[0, [0, 12, 19]])
    np.testing.assert_array_equal(np.repeat(found.mask[..., None], 3, axis=2), found.pixels)


@pytest.mark.parametrize("blur", [0, 2, 6])
def test_blur(blur):
    """A mask's edge becomes soft for as many pixels to both sides; further away it stays what it was."""
    mask = of(init_image=file_of(ramp()), mask_image=file_of(box()), mask_blur=blur).mask[6]
    assert [0] * (8 - blur) == list(mask[: 8 - blur])
    assert [255] * (8 - blur) == list(mask[12 + blur :])
    assert (np.diff(mask.astype(int)) >= 0).all()
    assert (blur > 0) == (mask[9] > 0)


@pytest.mark.parametrize(
    ("scale", "shape", "top", "left"), [(8, (16, 24), 2, 2), (4, (12, 20), 0, 0), (7, (14, 21), 1, 0)]
)
def test_padded(scale, shape, top, left):
    """Sides become multiples, the picture in the middle and its edges repeated; the mask goes along."""
    picture = of(init_image=file_of(ramp()), mask_image=file_of(box()))
    pixels = picture.padded(scale)
    assert ((3, *shape), np.float32) == (pixels.shape, pixels.dtype)
    levels = np.rint((pixels + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(ramp()), levels[top : top + 12, left : left + 20])
    np.testing.assert_array_equal(levels[0, 0], np.asarray(ramp())[0, 0])
    mask = picture.latent_mask(scale)
    assert ((1, shape[0] // scale, shape[1] // scale), np.float32) == (mask.shape, mask.dtype)
    assert (0, 1) == (mask[0, 0, 0], mask[0, 0, -1])
    white = (np.arange(shape[1]) >= left + 10).reshape(-1, scale).mean(axis=1)
    np.testing.assert_allclose(mask[0, 0], white, atol=1e-6)


def test_kept():
    """Pixels under black are the picture's to the bit, those under white the made one's, and between they blend."""
    made = np.full((12, 20, 3), 77, np.uint8)
    picture = of(init_image=file_of(ramp()), mask_image=file_of(box()), mask_blur=4)
    found = picture.kept(made)
    np.testing.assert_array_equal(picture.pixels[:, :5], found[:, :5])
    np.testing.assert_array_equal(made[:, 15:], found[:, 15:])
    share = picture.mask[..., None] / 255
    np.testing.assert_allclose(picture.pixels * (1 - share) + made * share, found, atol=0.51)
    assert made is of(init_image=file_of(ramp())).kept(made)


def with_bad_tag():
    """A JPEG whose orientation is no number that could be written again."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    data = file_of(ramp(), "JPEG", exif=exif)
    return data.replace(struct.pack(">HHI", 0x010E, 2, 10), struct.pack(">HHI", 0x0100, 2, 10))


def with_bad_chunk():
    """A PNG in the middle of whose pixels another thing begins."""
    levels = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    first, _, rest = file_of(Image.fromarray(levels)).rpartition(b"IDAT")
    return first + b"\1\1\1\1" + rest


DAMAGED = [
    b"",
    b"GIF89a",
    file_of(ramp((200, 200)))[:200],
    b"P6 1 1 255 abc",
    with_bad_tag(),
    with_bad_chunk(),
]


@pytest.mark.parametrize("data", DAMAGED)
@pytest.mark.parametrize("which", ["init", "mask"])
def test_damaged_files(which, data):
    """A file that cannot be decoded is refused by its part, whichever it is."""
    with pytest.raises(BackendError, match=f"The {which} image is damaged") as caught:
        of(**{"init_image": file_of(ramp()), f"{which}_image": data})
    assert "invalid_parameter" == caught.value.error_id


@pytest.mark.parametrize("which", ["init", "mask"])
def test_too_many_pixels(which):
    """A picture of more pixels than a request may hold is not decoded, whatever its header had said before."""
    large = file_of(Image.new("1", (8000, 4001)))
    with pytest.raises(BackendError, match=f"The {which} image has too many pixels"):
        of(**{"init_image": file_of(ramp()), f"{which}_image": large})


class Prompts:
    """Encodes a text as itself."""

    def pieces(self, text):
        return 1 + len(text) // 75

    def encode(self, text, pieces, stop_at, size):
        return (text, pieces, stop_at, size)


@attrs.define(eq=False)
class Told(LatentSampler):
    """A model of eight pixels a latent, which tells what the engine would be asked for."""

    make = dict
    channels = 4

    def __attrs_post_init__(self):
        self.text = Prompts()

    def scale(self, vae):
        return 8

    def encode(self, vae, pixels):
        return pixels.mean()

    def vae(self, path): ...
    def decode(self, job, vae, latents): ...
    def draw(self, latents): ...
    def forget(self): ...

    def asked(self, **job):
        made = attrs.evolve(JOB, **job)
        return self.sample(made, None, InitPicture.of(made))


def test_what_the_engine_is_asked_for():
    """A job's values reach the engine under its names; unguided ones have one prompt, and no variation is none."""
    found = Told("/m").asked(prompt="cat" * 30, cfg_scale=4.0, variation_seed=7, variation_strength=0.5)
    assert (4, 2, 3) == found["shape"]
    assert [("cat" * 30, 2, None, (12, 20)), ("", 2, None, (12, 20)), 2] == [
        found[name] for name in ("cond", "uncond", "group")
    ]
    assert (7, 0.5) == (found["variation_seed"], found["variation_strength"])
    assert not {"init", "mask", "keep", "start_step"} & set(found)
    plain = Told("/m").asked(cfg_scale=1.0, variation_strength=0.5)
    assert (None, 0, 0.0) == tuple(plain[name] for name in ("uncond", "variation_seed", "variation_strength"))


@pytest.mark.parametrize(("creativity", "start"), [(0.0, 9), (0.01, 9), (0.25, 8), (0.6, 4), (0.99, 0)])
def test_creativity(creativity, start):
    """The more creativity, the earlier the sampler begins; one step is always run."""
    found = Told("/m").asked(init_image=file_of(ramp()), init_creativity=creativity)
    assert start == found["start_step"]
    assert found["init"] is not None
    assert "mask" not in found


def test_all_creativity():
    """With all of it a picture counts for nothing; with a mask it is still what stays."""
    image = file_of(ramp())
    assert "init" not in Told("/m").asked(init_image=image, init_creativity=1.0)
    masked = Told("/m").asked(init_image=image, init_creativity=1.0, mask_image=file_of(box()))
    assert {"mask", "keep"} == {"init", "mask", "keep", "start_step"} & set(masked)
