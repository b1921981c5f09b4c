"""From values on the wire to typed ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkernel_t2i_api import Param
from swarmkernel_t2i_api.errors import ParamError
from swarmkernel_t2i_api.params import PARAMS
from swarmkernel_t2i_api.params.resolution import SHAPES, picture_size, read_resolution
from swarmkernel_t2i_api.params.values import as_text, match_option, read_value

BY_ID = {param.id: param for param in PARAMS}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def no_models(_text, _kind):
    """A server without models."""


def read(key, raw):
    """The typed value of a parameter on a server without models."""
    return read_value(BY_ID[key], raw, no_models)


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("steps", "5", 5),
        ("steps", 5.0, 5),
        ("steps", " 7 ", 7),
        ("seed", 2**63 - 1, 2**63 - 1),
        ("cfgscale", "1e1", 10.0),
        ("cfgscale", 7, 7.0),
        ("donotsave", "TRUE", True),
        ("donotsave", True, True),
        ("donotsave", 1, True),
        ("sampler", "dpmpp_2M", "dpmpp_2m"),
        ("sampler", "Euler", "euler"),
        ("aspectratio", "16:9", "16:9"),
        ("imageformat", "webp", "WEBP"),
        ("prompt", ["a", 1, True], "a\n|||\n1\n|||\ntrue"),
        ("prompt", "nul\0bel\a", "nulbel"),
    ],
)
def test_accepted(key, raw, value):
    """Values may come as numbers, text, booleans or lists, and options in any spelling."""
    assert value == read(key, raw)


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("images", 1),
        ("images", "1"),
        ("images", 1.0),
        ("donotsave", False),
        ("donotsave", "false"),
        ("donotsave", "False"),
        ("variationseedstrength", 0),
        ("variationseedstrength", 0.0),
        ("variationseedstrength", "0.00"),
        ("negativeprompt", ""),
        ("vae", "none"),
        ("internalbackendtype", "any"),
    ],
)
def test_ignored(key, raw):
    """A value that means nothing removes the parameter, however it is written."""
    assert read(key, raw) is None


@pytest.mark.parametrize(
    ("key", "raw", "reason"),
    [
        ("steps", -1, "between 0 and 500"),
        ("steps", "many", "not a whole number"),
        ("steps", 5.5, "not a whole number"),
        ("steps", True, "not a whole number"),
        ("steps", {}, "object"),
        ("steps", "9" * 5000, "not a whole number"),
        ("steps", "٣", "not a whole number"),
        ("width", 10**9, "between 64 and 16384"),
        ("cfgscale", float("nan"), "not a number"),
        ("cfgscale", "NaN", "not a number"),
        ("cfgscale", "inf", "not a number"),
        ("cfgscale", 1e308, "between 0 and 100"),
        ("cfgscale", "1_0", "not a number"),
        ("donotsave", "yes", "neither true nor false"),
        ("sampler", "nope", "euler, euler_ancestral"),
        ("sampler", "", "not one of"),
        ("model", "unknown", "no Stable-Diffusion model"),
        ("clipstopatlayer", 0, "between -24 and -1"),
    ],
)
def test_refused(key, raw, reason):
    """A bad value is refused with the parameter's name and what would be right."""
    with pytest.raises(ParamError, match=reason) as caught:
        read(key, raw)
    assert BY_ID[key].name in str(caught.value)
    assert "invalid_parameter" == caught.value.error_id


@given(st.sampled_from(PARAMS), JSON)
def test_any_value(param, raw):
    """Whatever a client sends gives a value in range, nothing, or a ParamError of bounded length."""
    value, text = None, ""
    try:
        value = read_value(param, raw, no_models)
    except ParamError as error:
        text = str(error)
    assert len(text) < 1000
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert param.min <= value <= param.max


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("BIG red", "Big Red"),
        ("red", "red///the red one"),
        ("gre", "green"),
        ("[green]", "green"),
        ("blue", None),
        ("", None),
    ],
)
def test_match_option(text, found):
    """The same text but for case, blanks and brackets wins, then the shortest option that contains it."""
    assert found == match_option(text, ["Big Red", "greenish", "green", "red///the red one"])


def test_numbers_match_exactly():
    """A number among options means itself: asking for backend 1 never gives backend 10."""
    assert match_option("1", ["0", "10", "12"]) is None
    assert "10" == match_option("10", ["0", "10", "100"])
    assert match_option("-1", ["-10", "-12"]) is None


def test_lists():
    """A list may come as an array, with the separator, or with commas; its items match options."""
    param = Param("Things", "list", values=("Alpha", "Beta"))
    for raw in (["alpha", "bet"], "alpha\n|||\nbet", "alpha, bet"):
        assert ["Alpha", "Beta"] == read_value(param, raw, no_models)
    with pytest.raises(ParamError):
        read_value(param, "gamma", no_models)


def test_media():
    """A media parameter takes a data URL or bare base64, and nothing that names a file."""
    param = Param("Picture", "image")
    for raw in ("data:image/png;base64,AAAA", "A" * 12):
        assert raw == read_value(param, raw, no_models)
    with pytest.raises(ParamError):
        read_value(param, "../secret.png", no_models)


@pytest.mark.parametrize(
    ("raw", "text"), [(5.0, "5"), (0.25, "0.25"), (True, "true"), (None, ""), ([1, 2], "1\n|||\n2")]
)
def test_as_text(raw, text):
    """JSON values read as the shortest text."""
    assert text == as_text(raw)


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({}, (768, 512)),
        ({"width": 100}, (100, 512)),
        ({"height": 100}, (768, 100)),
        ({"width": 640, "height": 320, "aspectratio": "16:9"}, (640, 320)),
        ({"aspectratio": "1:1"}, (768, 512)),
        ({"aspectratio": "1:1", "sidelength": 1024}, (1024, 1024)),
        ({"sidelength": 1024}, (1024, 1024)),
        ({"aspectratio": "3:4", "sidelength": 1024}, (896, 1152)),
        ({"aspectratio": "21:9", "sidelength": 500, "width": 1, "height": 1}, (752, 320)),
        ({"aspectratio": "Custom", "sidelength": 1024, "width": 200, "height": 300}, (200, 300)),
        ({"rawresolution": "64x16384", "width": 5}, (64, 16384)),
    ],
)
def test_picture_size(values, size):
    """The first that applies: the raw resolution, a side with a shape, width and height, the model's own."""
    assert size == picture_size(values, standard=(768, 512))


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape):
    """Without a size, a shape has about as many pixels as the model's standard size, in multiples of 16."""
    width, height = picture_size({"aspectratio": shape}, standard=(1024, 1024))
    assert 0.85 < width * height / 1024**2 < 1.1
    assert (0, 0) == (width % 16, height % 16)
    assert (width > height) == (SHAPES[shape][0] > SHAPES[shape][1])


@pytest.mark.parametrize(
    "text", ["", "512", "63x512", "512x16385", "-1x64", "axb", "512x512x512", "9" * 9 + "x64"]
)
def test_bad_resolution(text):
    """Anything but WIDTHxHEIGHT with sides that pictures can have is refused."""
    with pytest.raises(ParamError, match="1024x768"):
        read_resolution(text)
