"""Names of outputs: what clients expect, and nothing that harms."""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from datetime import datetime, timedelta

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmkernel_t2i_api.outputs import paths
from swarmkernel_t2i_api.outputs.clean import MAX_PART_BYTES, clean_user_id
from swarmkernel_t2i_api.outputs.paths import (
    NUMBER,
    PathFacts,
    PathRules,
    RequestCounter,
    fill_path,
)
from swarmkernel_t2i_api.outputs.safe_paths import check_segment

MOMENT = datetime(2026, 8, 1, 4, 2, 5, 78_000)  # noqa: DTZ001


def filled(template: str, facts: PathFacts, **rules: object) -> str:
    """The path that a template gives."""
    return "/".join(fill_path(PathRules(template, **rules), facts))


def test_the_default_format(facts):
    """The default names a picture by date, time, request, prompt and model."""
    assert fill_path(PathRules(), facts()) == ("raw", "2026-08-21", "1412001-a cat-sdxlbase")


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("year", "2026"),
        ("month", "08"),
        ("day", "01"),
        ("hour", "04"),
        ("minute", "02"),
        ("second", "05"),
        ("millisecond", "078"),
        ("month_name", "August"),
        ("day_name", "Saturday"),
        ("request_time_inc", "012"),
        ("prompt", "a cat"),
        ("negative_prompt", "dog"),
        ("prompthash", hashlib.sha256(b"a cat").hexdigest()[:8]),
        ("negativeprompthash", hashlib.sha256(b"dog").hexdigest()[:8]),
        ("seed", "7"),
        ("cfg_scale", "75"),
        ("CFG Scale", "75"),
        ("cfgscale", "75"),
        ("width", "640"),
        ("height", "480"),
        ("steps", "20"),
        ("model", "sdxlbase v2"),
        ("model_title", "Base Two"),
        ("loras", "sub1-b"),
        ("batch_id", "3"),
        ("user_name", "bob"),
        ("PROMPT", "a cat"),
        ("vae", ""),
        ("donotsave", "true"),
        ("generation_time", ""),
        ("used_wildcards", ""),
        ("Prep Time", "052 sec"),
        ("presets_used", "p-q"),
        ("custom_thing", "value"),
        ("nobody knows", "[nobody knows]"),
        ("", "[]"),
        ("123", "[123]"),
    ],
)
def test_tags(tag, expected):
    """Each tag gives its value, cleaned; an unknown one stays as it was typed."""
    facts = PathFacts(
        MOMENT,
        12,
        "bob",
        3,
        params={
            "prompt": "a cat",
            "negativeprompt": "dog",
            "seed": 7,
            "cfgscale": 7.5,
            "width": 640,
            "height": 480,
            "steps": 20,
            "model": "sdxl/base v2.safetensors",
            "loras": ["sub/1", "b.safetensors"],
            "donotsave": True,
        },
        known={"vae"},
        model_title="Base Two",
        extra={"prep_time": "0.52 sec", "presets_used": ["p", "q"], "custom_thing": "value"},
    )

    assert f"x{expected}y" == filled(f"x[{tag}]y", facts)


@pytest.mark.parametrize(
    ("template", "params", "expected"),
    [
        ("[prompt]", {"prompt": "a/b\\c"}, "abc"),
        ("[prompt]", {"prompt": "../../etc/passwd"}, "etcpasswd"),
        ("../../[seed]", {"seed": 1}, "1"),
        ("/abs/[seed]", {"seed": 1}, "abs/1"),
        ("C:\\dir\\[seed]", {"seed": 1}, "C/dir/1"),
        ("a//b/./c/[seed]", {"seed": 1}, "a/b/c/1"),
        ("[prompt]", {"prompt": ""}, "image"),
        ("a/[prompt]", {"prompt": "..."}, "a/image"),
        ("a/", {}, "a/image"),
        ("", {}, "image"),
        ("con/aux/x", {}, "con_/aux_/x"),
        ("[prompt]", {"prompt": "[number] [seed]"}, "[number] [seed]"),
        ("[prompt]", {"prompt": "x\0\x1b\u200b\u202ey\ud800"}, "xy"),
        ("[prompt]", {"prompt": '50% <b>"q"|?*~&@;#$^'}, "50 bq"),
        ("[prompt]", {"prompt": "x" * 99}, "x" * 40),
        ("[prompt] /y", {"prompt": " "}, "y"),
        ("[model]", {}, "unknown"),
        ("[model_title]", {}, "unknown"),
        ("/".join("abcdefghijklmnopqrstuvwxyz"), {}, "/".join("abcdefghijklmno") + "/z"),
    ],
)
def test_cleaning(template, params, expected):
    """Values make no folders, nothing climbs, and something is always left."""
    assert expected == filled(template, PathFacts(MOMENT, params=params))


def test_settings_of_the_user():
    """A user may take more or less of each value, and leave out the folders of models."""
    facts = PathFacts(
        MOMENT, params={"model": "a\\b/c.gguf", "loras": ["d/e", "f/g"], "prompt": "long prompt"}
    )

    assert filled("[prompt]", facts, max_len_per_part=4) == "long"
    assert filled("[model]+[loras]", facts, model_paths_skip_folders=True) == "c+e-g"
    assert filled("[prompt]", facts, max_len_per_part=-5) == "l"


def test_numbers():
    """`[number]` counts up from 1; without it the plain name comes first, then -1, -2."""
    assert fill_path(PathRules("[number]-x"), PathFacts(MOMENT)) == (f"{NUMBER}-x",)
    assert ["1-x", "2-x", "3-x"] == list(itertools.islice(paths.names(f"{NUMBER}-x"), 3))
    assert ["x", "x-1", "x-2"] == list(itertools.islice(paths.names("x"), 3))
    assert ["com1_", "com2_"] == list(itertools.islice(paths.names(f"com{NUMBER}"), 2))
    assert ["aux_", "aux-1"] == list(itertools.islice(paths.names("aux"), 2))


def test_request_numbers():
    """Requests count from 1 in each minute, and start over after 998."""
    counter = RequestCounter()
    assert [1, 2] == [counter.next(MOMENT), counter.next(MOMENT + timedelta(seconds=50))]
    assert counter.next(MOMENT + timedelta(minutes=1)) == 1
    later = MOMENT + timedelta(minutes=2)
    assert [*range(1, 999), 1, 2] == [counter.next(later) for _ in range(1000)]


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("local", "local"),
        ("Bob", "bob"),
        ("../x", "x"),
        ("a/b", "ab"),
        ("", "_"),
        ("..", "_"),
        ("nul", "nul_"),
    ],
)
def test_user_folders(user, expected):
    """A user id is one harmless folder."""
    assert expected == clean_user_id(user)


NASTY = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="./\\:*[]<>| \0\x7f\u202e%-_aux1", max_size=60),
    st.sampled_from(
        [
            "..",
            "../..",
            "/etc/passwd",
            "C:\\x",
            "\\\\host\\share",
            "con",
            "nul.png",
            "com1",
            "...",
            " . ",
            "‥",
            "．．／",
            "é" * 300,
            "🎨" * 200,
        ]
    ),
)
TEMPLATES = st.lists(
    st.one_of(
        NASTY, st.sampled_from(["[prompt]", "[model]", "[number]", "[user_name]", "[x y]", "[loras]", "/"])
    ),
    max_size=12,
).map("".join)
FACTS = st.builds(
    PathFacts,
    moment=st.datetimes(),
    request_number=st.integers(0, 9999),
    user_id=NASTY,
    batch_id=st.integers(),
    params=st.dictionaries(
        st.sampled_from(["prompt", "negativeprompt", "model", "loras", "seed", "cfgscale", "xy"]),
        st.one_of(NASTY, st.integers(), st.floats(), st.booleans(), st.none(), st.lists(NASTY, max_size=3)),
    ),
    model_title=st.none() | NASTY,
    extra=st.dictionaries(NASTY, NASTY, max_size=3),
)
RULES = st.builds(
    PathRules,
    format=TEMPLATES,
    max_len_per_part=st.integers(-3, 10_000),
    model_paths_skip_folders=st.booleans(),
)
DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)")


@given(RULES, FACTS)
@settings(max_examples=800, deadline=None)
def test_no_template_escapes(rules, facts):
    """Whatever the template and the values, each part is a short, plain, relative name with nothing hidden in it."""
    *folders, leaf = fill_path(rules, facts)
    final = [*folders, *itertools.islice(paths.names(leaf), 3), clean_user_id(facts.user_id)]

    assert len(folders) < paths.MAX_DEPTH
    for part in final:
        assert part
        assert part == part.strip()
        assert not set('<>:"/\\|?*~&@;#$^.%') & set(part)
        assert not any(unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Cn"} for letter in part)
        assert not DEVICE.fullmatch(part)
        assert len(f"{part}-99999.swarmpreview.jpg".encode()) <= 255
        assert len(part.encode()) <= MAX_PART_BYTES


@pytest.mark.parametrize(
    ("most", "expected"),
    [(99, "a/b/c/d/x"), (3, "a/b/c/x"), (1, "a/x"), (0, "x"), (-1, "x")],
)
def test_depth(most, expected):
    """At most as many folders count as the user may make; the picture's own name always does."""
    assert expected == filled("a/b/c/d/x", PathFacts(MOMENT), max_folders=most)
    assert paths.MAX_DEPTH == len(fill_path(PathRules("a/" * 99 + "x", max_folders=99), PathFacts(MOMENT)))


@pytest.mark.parametrize(
    ("template", "expected", "cleaned"),
    [
        ("v1.5/~me & you;@home$^/x", "v1.5/~me & you;@home$^/x", "v15/me  youhome/x"),
        ("../../x", "x", "x"),
        ("a/../b/./c/.../x", "a/b/c/x", "a/b/c/x"),
        ("/etc/passwd", "etc/passwd", "etc/passwd"),
        ("C:\\x", "C/x", "C/x"),
        (".ssh/authorized_keys", "ssh/authorized_keys", "ssh/authorized_keys"),
        ("a. . /x", "a/x", "a/x"),
        ("a/x.html", "a/xhtml", "a/xhtml"),
        ("x.swarmpreview", "xswarmpreview", "xswarmpreview"),
        ("aux.5/conin$/nul.x.y/con.", "aux_.5/conin$_/nul_.x.y/con", "aux5/conin/nulxy/con"),
        ('50%/a#b/c?d|e<f>g*h"i', "50/ab/cdefghi", "50/ab/cdefghi"),
        ("a\0b\x1b\u202e/x", "ab/x", "ab/x"),
        ("[prompt]/x", "v15/x", "v15/x"),
    ],
)  # fmt: skip
def test_unsafe_templates(template, expected, cleaned):
    """An unsafe template keeps a few characters more in its own text; it leads no further, and values are cleaned."""
    facts = PathFacts(MOMENT, params={"prompt": "../v1.5"})
    assert (expected, cleaned) == (filled(template, facts, unsafe=True), filled(template, facts))


@given(RULES, FACTS)
@settings(max_examples=800, deadline=None)
def test_no_unsafe_template_escapes(rules, facts):
    """Whatever an unsafe template holds, each part is one that can be fetched again, and the last has no dot."""
    *folders, leaf = fill_path(attrs.evolve(rules, unsafe=True), facts)
    assert len(folders) < paths.MAX_DEPTH
    for part in [*folders, *itertools.islice(paths.names(leaf), 3)]:
        check_segment(part)
        assert part == part.strip()
        assert not set('<>:"/\\|?*#%') & set(part)
        assert len(f"{part}-99999.swarmpreview.jpg".encode()) <= 255
    assert "." not in leaf


async def test_unsafe_paths_stay_with_the_user(outputs, picture, facts, tmp_path):
    """Whatever an unsafe template asks for, the file is in the user's folder, under the URL that is told."""
    names = (
        "../../x",
        "/etc/x",
        "..\\x",
        "v1.5/x",
        "~/x",
        "a/../../../x",
        "....//x",
        ".swarmtmp/x",
        "..%2f..%2fx",
    )
    urls = [await outputs.save(picture, PathRules(name, unsafe=True), facts(user_id="bob")) for name in names]
    assert len(set(urls)) == len(names)
    made = {str(path.relative_to(outputs.root)) for path in tmp_path.rglob("*.png")}
    assert {url.removeprefix("View/") for url in urls} == made
    assert all(name.startswith("bob/") for name in made)
    assert "bob/v1.5/x.png" in made
