"""Folders that are unsafe, damaged or of another kind."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx import OnnxSettings, safety
from swarmkernel_backends_onnx.folder import load_parts
from swarmkernel_backends_onnx.graph import Graph
from swarmkernel_backends_onnx.protobuf import field, fields
from swarmkernel_backends_onnx.providers import Device, probe
from swarmkernel_backends_onnx.safety import check_graph

CPU = Device("CPU", OnnxSettings(provider="CPU", threads=1))


def tensor(location: str) -> onnx.TensorProto:
    """A tensor whose values are in another file."""
    made = numpy_helper.from_array(np.zeros(2, np.float32), "w")
    made.ClearField("raw_data")
    made.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "8"}.items():
        made.external_data.add(key=key, value=value)
    return made


def graph_of(*, nodes: Any = (), weights: Any = ()) -> onnx.GraphProto:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    return helper.make_graph([*nodes, helper.make_node("Add", ["w", "w"], ["y"])], "g", [], [value], weights)


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def in_weights(location: str) -> onnx.ModelProto:
    return model_of(graph_of(weights=[tensor(location)]))


def in_attribute(location: str) -> onnx.ModelProto:
    return model_of(graph_of(nodes=[helper.make_node("Constant", [], ["w"], value=tensor(location))]))


def in_branch(location: str) -> onnx.ModelProto:
    branch = in_attribute(location).graph
    return model_of(graph_of(nodes=[helper.make_node("If", ["c"], ["w"], then_branch=branch)]))


def in_function(location: str) -> onnx.ModelProto:
    made = model_of(graph_of())
    node = helper.make_node("Constant", [], ["w"], value=tensor(location))
    made.functions.append(helper.make_function("d", "F", [], ["w"], [node], []))
    return made


def in_sparse(location: str) -> onnx.ModelProto:
    made = model_of(graph_of())
    made.graph.sparse_initializer.add().values.CopyFrom(tensor(location))
    return made


def in_training(location: str) -> onnx.ModelProto:
    made = model_of(graph_of())
    made.training_info.add().initialization.CopyFrom(in_attribute(location).graph)
    return made


def in_attribute_of(**found: Any) -> onnx.ModelProto:
    return model_of(graph_of(nodes=[helper.make_node("Op", [], ["w"], **found)]))


def in_list(location: str) -> onnx.ModelProto:
    return in_attribute_of(values=[tensor(location)])


def in_branches(location: str) -> onnx.ModelProto:
    return in_attribute_of(branches=[in_attribute(location).graph])


def in_sparse_attribute(location: str) -> onnx.ModelProto:
    return in_attribute_of(value=onnx.SparseTensorProto(indices=tensor(location)))


def in_sparse_list(location: str) -> onnx.ModelProto:
    return in_attribute_of(values=[onnx.SparseTensorProto(values=tensor(location))])


PLACES = (
    in_weights,
    in_attribute,
    in_branch,
    in_function,
    in_sparse,
    in_training,
    in_list,
    in_branches,
    in_sparse_attribute,
    in_sparse_list,
)


def put(root: Path, model: onnx.ModelProto) -> Path:
    file = root / "unet/model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model.SerializeToString())
    return file


@pytest.mark.parametrize("place", PLACES)
def test_weights_elsewhere_are_found(tmp_path: Path, place: Callable[[str], onnx.ModelProto]) -> None:
    """Wherever in a file a tensor says that its values are out of the folder, the file is refused."""
    (tmp_path / "w").write_bytes(bytes(8))
    root = tmp_path / "m"
    file = put(root, place("../../w"))
    with pytest.raises(BackendError, match="not safe") as caught:
        check_graph(file, root)
    assert "unsafe_model" == caught.value.error_id


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd", "../../secret", "a/../../../secret", "..", "C:\\secret", "c:secret", "\\\\host\\share\\x",
        "..\\..\\secret", "*/_ORT_MEM_ADDR_/*",
    ],
)  # fmt: skip
def test_ways_out(tmp_path: Path, location: str) -> None:
    """Absolute paths, drives, ways up and addresses of memory are refused, even if there is such a file."""
    root = tmp_path / "m"
    file = put(root, in_weights(location))
    for name in (
        tmp_path / "secret",
        file.parent / "*/_ORT_MEM_ADDR_/*",
        file.parent / location.lstrip("/."),
    ):
        name.parent.mkdir(parents=True, exist_ok=True)
        if not name.exists():
            name.write_bytes(bytes(8))
    with pytest.raises(BackendError, match="outside of the model's folder") as caught:
        check_graph(file, root)
    assert "unsafe_model" == caught.value.error_id


def test_links_out(tmp_path: Path) -> None:
    """A link that leads out of the folder is refused, as a graph and as weights; one that stays inside is not."""
    root = tmp_path / "m"
    file = put(root, in_weights("w"))
    (tmp_path / "secret").write_bytes(bytes(8))
    (file.parent / "w").symlink_to(tmp_path / "secret")
    with pytest.raises(BackendError, match="lead out"):
        check_graph(file, root)
    (file.parent / "w").unlink()
    (root / "real").write_bytes(bytes(8))
    (file.parent / "w").symlink_to(root / "real")
    check_graph(file, root)
    shutil.move(file, tmp_path / "model.onnx")
    file.symlink_to(tmp_path / "model.onnx")
    with pytest.raises(BackendError, match="leads out"):
        check_graph(file, root)


def test_weights_beside_are_read(tmp_path: Path) -> None:
    """Weights in a file beside the graph are read; without that file the model is refused by its name."""
    file = put(tmp_path, in_weights("w.bin"))
    with pytest.raises(BackendError, match=r"unet/w\.bin is not there"):
        check_graph(file, tmp_path)
    (file.parent / "w.bin").write_bytes(np.array([1, 2], np.float32).tobytes())
    (found,) = Graph.load(tmp_path, "unet", CPU).run(["y"], {})
    np.testing.assert_array_equal([2, 4], found)


def test_engines_are_refused(tmp_path: Path) -> None:
    """A graph with a compiled engine in it is refused."""
    node = helper.make_node("EPContext", [], ["w"], domain="com.microsoft", ep_cache_context="engine.bin")
    with pytest.raises(BackendError, match="compiled engine"):
        check_graph(put(tmp_path, model_of(graph_of(nodes=[node]))), tmp_path)


def test_wire_format() -> None:
    """Fields come back as they were written, whatever their size."""
    for value in (0, 1, 127, 128, 300, 2**40, b"", b"x", b"y" * 300):
        ((number, found),) = fields(field(17, value))
        assert (17, value) == (number, found if isinstance(found, int) else bytes(found))


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of more entries or deeper nesting than any model has is given up, and not first taken into memory."""
    monkeypatch.setattr(safety, "MAX_FIELDS", 1000)
    (tmp_path / "wide.onnx").write_bytes(field(7, field(1, b"") * 1001))
    with pytest.raises(BackendError, match="more than 1,000 entries"):
        check_graph(tmp_path / "wide.onnx", tmp_path)
    deep = b""
    for _ in range(60):
        deep = field(1, field(5, field(6, deep)))
    (tmp_path / "deep.onnx").write_bytes(field(7, deep))
    with pytest.raises(BackendError, match="not a whole ONNX file"):
        check_graph(tmp_path / "deep.onnx", tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Every file that was cut, and one that is no ONNX at all, is refused with a clear error and nothing else."""
    whole = probe()
    file = put(tmp_path, in_weights("w"))
    for content in (
        *(whole[:end] for end in range(1, len(whole))),
        b"\x80\x02}q\x00.",
        b"\xff" * 99,
        b"PK\x03\x04",
    ):
        file.write_bytes(content)
        with pytest.raises(BackendError) as caught:
            Graph.load(tmp_path, "unet", CPU)
        assert "model_corrupt" == caught.value.error_id
        assert str(tmp_path) not in caught.value.text
    file.write_bytes(b"")
    with pytest.raises(BackendError, match="cannot be read"):
        Graph.load(tmp_path, "unet", CPU)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def swap(folder: Path, one: str, other: str) -> None:
    shutil.copy(folder / other / "model.onnx", folder / one / "model.onnx")


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "not there any more"),
    "no index": (lambda f: (f / "model_index.json").unlink(), "no model_index.json"),
    "index that is no json": (lambda f: (f / "model_index.json").write_text("{"), "is not JSON"),
    "refiner": (
        lambda f: edit(f, text_encoder=[None, None], text_encoder_2=["transformers", "X"]),
        "refiner",
    ),
    "another family": (
        lambda f: edit(f, unet=[None, None], transformer=["d", "Flux"]),
        "is not Stable Diffusion",
    ),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "no scheduler"),
    "no unet": (lambda f: (f / "unet/model.onnx").unlink(), "no unet/model.onnx"),
    "no decoder": (lambda f: shutil.rmtree(f / "vae_decoder"), "no vae_decoder/model.onnx"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "neither vocab.json"),
    "no tower": (lambda f: shutil.rmtree(f / "text_encoder"), "no text_encoder/model.onnx"),
    "unet of another sort": (lambda f: swap(f, "unet", "vae_decoder"), "here it must take"),
    "decoder of another sort": (lambda f: swap(f, "vae_decoder", "vae_encoder"), "must take latent_sample"),
    "inpainting": (
        lambda f: (f / "unet/config.json").write_text('{"in_channels": 9}'),
        "takes 9 channels where its VAE has 4",
    ),
    "second tower named only": (lambda f: edit(f, text_encoder_2=["t", "C"]), "here it must take"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_spoiled_folders_are_refused(models: Any, tmp_path: Path, what: str) -> None:
    """A folder that is not whole or of another kind is refused with the reason in the text."""
    folder = Path(shutil.copytree(models.folder("sd1"), tmp_path / "model"))
    spoil, reason = SPOILED[what]
    spoil(folder)
    with pytest.raises(BackendError, match=reason) as caught:
        load_parts(folder, CPU)
    assert caught.value.error_id in {"model_corrupt", "model_missing", "unsupported_model"}
    assert str(tmp_path) not in caught.value.text


async def test_no_hidden_states(models: Any, tmp_path: Path, onnx_rig: Any) -> None:
    """Of a tower that gives its last state alone, only that can be read; another layer is refused with the reason."""
    folder = Path(shutil.copytree(models.folder("sd1"), tmp_path / "model"))
    await onnx_rig.load(folder)
    expected = await onnx_rig.picture()
    file = folder / "text_encoder/model.onnx"
    model = onnx.load(file)
    kept = [output for output in model.graph.output if output.name == "last_hidden_state"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, file)
    await onnx_rig.load(folder)
    np.testing.assert_array_equal(expected, await onnx_rig.picture())
    with pytest.raises(BackendError, match="without its hidden states"):
        await onnx_rig.picture(clip_stop_at_layer=-2)


@pytest.mark.parametrize("shape", [[], [1]])
async def test_one_timestep_for_all(
    models: Any, tmp_path: Path, onnx_rig: Any, forwards: Any, levels: Any, shape: list[int]
) -> None:
    """A UNet with one timestep for all rows gives the same pictures, one at a time."""
    folder = Path(shutil.copytree(models.folder("sd1"), tmp_path / "model"))
    await onnx_rig.load(folder)
    expected = [await onnx_rig.picture(id=str(n), seed=n) for n in range(2)]
    file = folder / "unet/model.onnx"
    model = onnx.load(file)
    scalar = helper.make_tensor_value_info("timestep", TensorProto.INT64, shape)
    (old,) = (value for value in model.graph.input if value.name == "timestep")
    old.CopyFrom(scalar)
    for node in model.graph.node:
        node.input[:] = ["timesteps" if name == "timestep" else name for name in node.input]
    made = [
        helper.make_node("Shape", ["sample"], ["size"], end=1),
        helper.make_node("Cast", ["timestep"], ["time"], to=TensorProto.FLOAT),
        helper.make_node("Expand", ["time", "size"], ["timesteps"]),
    ]
    nodes = [*made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, file)
    await onnx_rig.load(folder)
    rows = forwards(onnx_rig.backend._sampler.parts.unet)
    found = await asyncio.gather(*(onnx_rig.picture(id=str(n), seed=n) for n in range(2)))
    assert {2} == set(rows)
    assert max(map(levels, expected, found)) <= 8
