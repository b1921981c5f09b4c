"""The header reader believes nothing."""

import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from swarmkernel_models_api.errors import ModelFileError
from swarmkernel_models_api.formats import sniff
from swarmkernel_models_api.headers import Header, header_length, parse_header, read_header


def packed(header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


WHOLE = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(0, np.float16)}, {"modelspec.title": "T"})


def parsed(content: bytes) -> Header:
    length = header_length(content[:8], len(content))
    return parse_header(content[8 : 8 + length], len(content) - 8 - length)


def test_reads_what_the_library_writes(tmp_path):
    """Names, shapes, metadata and the begin of the data are those that the safetensors library wrote."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(WHOLE)

    header = read_header(path)

    assert {"a": [2, 3], "b": [0]} == header.shapes
    assert {"modelspec.title": "T"} == header.metadata
    assert len(WHOLE) - 24 == header.data_start


def test_every_cut_is_noticed(tmp_path):
    """A file that ends too early, wherever, is refused with a reason."""
    for length in range(len(WHOLE)):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(WHOLE[:length])
        with pytest.raises(ModelFileError):
            read_header(path)


T = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
BAD = {
    "huge length": struct.pack("<Q", 2**63) + b"{}",
    "over 64 MiB": struct.pack("<Q", 64 * 2**20 + 1) + b"{}",
    "not JSON": packed(b"{nope}"),
    "deep": packed(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "deep object": packed(b'{"a":' * 900 + b"1" + b"}" * 900),
    "array": packed([]),
    "text tensor": packed({"a": "b"}),
    "extra key": packed({"a": {**T, "x": [[[[]]]]}}, b"0" * 4),
    "no shape": packed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"0" * 4),
    "negative": packed({"a": {**T, "shape": [-1]}}, b"0" * 4),
    "bool": packed({"a": {**T, "shape": [True]}}, b"0" * 4),
    "float": packed({"a": {**T, "shape": [1.0]}}, b"0" * 4),
    "2^70": packed({"a": {**T, "shape": [2**70]}}, b"0" * 4),
    "many dimensions": packed({"a": {**T, "shape": [1] * 65}}, b"0" * 4),
    "backwards": packed({"a": {**T, "data_offsets": [4, 0]}}, b"0" * 4),
    "beyond the end": packed({"a": {**T, "shape": [2], "data_offsets": [0, 8]}}, b"0" * 4),
    "gap": packed({"a": {**T, "data_offsets": [4, 8]}}, b"0" * 8),
    "overlap": packed({"a": T, "b": T}, b"0" * 4),
    "rest": packed({"a": T}, b"0" * 5),
    "size": packed({"a": {**T, "shape": [2]}}, b"0" * 4),
    "metadata": packed({"__metadata__": {"a": 1}}),
    "metadata list": packed({"__metadata__": []}),
    "brackets": packed(b'{"a":[' + b"[]," * 2**20 + b"[]]}"),
    "commas": packed(b'{"a":[' + b"1," * 2**22 + b"1]}"),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_malformed(content):
    """Every kind of damage is refused with ModelFileError and nothing else."""
    with pytest.raises(ModelFileError):
        parsed(content)


@settings(max_examples=1500, deadline=None)
@given(st.binary(max_size=300))
def test_noise(content):
    """Whatever bytes a file has, it is read or refused."""
    sniff(content[:265], len(content))
    try:
        parsed(content)
    except ModelFileError:
        return


@settings(max_examples=1500, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), st.binary(max_size=3))
def test_never_more_trusting_than_the_library(tmp_path_factory, place, byte, tail):
    """What this reader accepts of a damaged file, the safetensors library accepts too."""
    content = WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :] + tail
    try:
        header = parsed(content)
    except ModelFileError:
        return
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(content)
    try:
        with safe_open(path, "np") as file:
            assert set(header.shapes) == set(file.keys())
    except SafetensorError as exc:
        if "variant" not in str(exc):  # a dtype that the library does not know yet
            raise


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I8", "NEW", "F4"]) | JSON,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | JSON,
    }
)


@settings(max_examples=1500, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), TENSOR | JSON, max_size=3),
    st.integers(0, 64),
)
def test_any_json(header, size):
    """Whatever JSON a header is, it is read or refused, and what is read has shapes of whole numbers."""
    try:
        found = parse_header(json.dumps(header).encode(), size)
    except ModelFileError:
        return
    assert all(type(n) is int for shape in found.shapes.values() for n in shape)


def test_a_pipe_does_not_hang(tmp_path):
    """A named pipe with a model's name is refused at once."""
    path = tmp_path / "pipe.safetensors"
    os.mkfifo(path)
    with pytest.raises(ModelFileError):
        read_header(path)
