"""The metadata text."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from swarmkernel_t2i_api.outputs import metadata as md


def test_the_text_as_clients_know_it():
    """Blocks in order, two spaces deep, line feeds, ASCII, the version last among the parameters."""
    text = md.build_metadata(
        {"prompt": "grün", "seed": 1, "cfgscale": 7.5, "loras": ["a"]},
        {"date": "2026-08-21", "prep_time": "0.52 sec"},
        [md.UsedModel("x/y.safetensors", "model", "0xab")],
        version="1.0.0",
    )

    assert text == (
        "{\n"
        '  "sui_image_params": {\n'
        '    "prompt": "gr\\u00fcn",\n'
        '    "seed": 1,\n'
        '    "cfgscale": 7.5,\n'
        '    "loras": [\n'
        '      "a"\n'
        "    ],\n"
        '    "swarm_version": "1.0.0"\n'
        "  },\n"
        '  "sui_extra_data": {\n'
        '    "date": "2026-08-21",\n'
        '    "prep_time": "0.52 sec"\n'
        "  },\n"
        '  "sui_models": [\n'
        "    {\n"
        '      "name": "x/y.safetensors",\n'
        '      "param": "model",\n'
        '      "hash": "0xab"\n'
        "    }\n"
        "  ]\n"
        "}"
    )


def test_models_can_be_left_out():
    """Without models there is no such block, and with none there is an empty one."""
    assert "sui_models" not in json.loads(md.build_metadata({}, {}, version="1"))
    assert json.loads(md.build_metadata({}, {}, [], version="1"))["sui_models"] == []


def test_generation_time_joins_the_rest():
    """The time is added to the extra data and nothing else changes."""
    before = md.build_metadata({"prompt": "é"}, {"date": "x"}, version="1")
    after = json.loads(md.with_generation_time(before, 3.168))

    assert {"date": "x", "generation_time": "3.17 sec"} == after["sui_extra_data"]
    assert json.loads(before)["sui_image_params"] == after["sui_image_params"]


@pytest.mark.parametrize("text", ["", "steps: 20", "[]", "{}", '{"sui_extra_data": 5}', "[" * 100_000])
def test_foreign_text_is_kept(text):
    """Text that is not ours is not touched."""
    assert text == md.with_generation_time(text, 1.0)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0.00 sec"), (3.168, "3.17 sec"), (120, "120.00 sec"), (123, "2.05 min")]
)
def test_durations(seconds, expected):
    """Seconds up to two minutes, minutes above, two places."""
    assert expected == md.duration_text(seconds)


def test_dates():
    """Dates are written year first."""
    assert md.date_text(datetime(2026, 8, 1)) == "2026-08-01"  # noqa: DTZ001


@pytest.mark.parametrize("text", ['{"a": "é"}', '{"a": "🎨 \\u00e9 漢"}', '{"a": "plain\\n"}'])
def test_ascii_means_the_same(text):
    """Escaped text is ASCII and reads as the same JSON."""
    escaped = md.ascii_json(text)

    assert escaped.isascii()
    assert json.loads(text) == json.loads(escaped)
