"""Graphs that give more than is needed, or fail in the middle of a picture."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from swarmkernel_backend_api import BackendError


def with_nodes(folder: Path, *nodes: onnx.NodeProto, **constants: Any) -> None:
    """The UNet's output plus what *nodes* make of ``sample``, under the name ``more``."""
    file = folder / "unet/model.onnx"
    model = onnx.load(file)
    for node in model.graph.node:
        node.output[:] = ["less" if name == "out_sample" else name for name in node.output]
    model.graph.node.extend([*nodes, onnx.helper.make_node("Add", ["less", "more"], ["out_sample"])])
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()
    )
    onnx.save(model, file)


@pytest.fixture
def folder(models: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models.folder("sd1"), tmp_path / "model"))


async def test_out_of_memory(folder: Path, onnx_rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that wants more memory than there is fails with advice, and what can be given back is."""
    with_nodes(
        folder,
        onnx.helper.make_node("Shape", ["sample"], ["shape"]),
        onnx.helper.make_node("Mul", ["shape", "much"], ["huge"]),
        onnx.helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        onnx.helper.make_node("ReduceMax", ["zeros"], ["more"], keepdims=0),
        much=np.array([2**10] * 4),
    )
    await onnx_rig.load(folder)
    released: list[bool] = []
    monkeypatch.setattr(type(onnx_rig.backend), "release", lambda _: released.append(True))
    with pytest.raises(BackendError, match="smaller picture") as caught:
        await onnx_rig.picture()
    assert "gpu_oom" == caught.value.error_id
    async with asyncio.timeout(10):
        while not released:
            await asyncio.sleep(0.001)


async def test_graph_that_fails(folder: Path, onnx_rig: Any) -> None:
    """Whatever else onnxruntime says of a graph is passed on as the model's failure."""
    with_nodes(
        folder,
        onnx.helper.make_node("Reshape", ["sample", "odd"], ["more"]),
        odd=np.array([7, 7]),
    )
    await onnx_rig.load(folder)
    with pytest.raises(BackendError, match="could not be run: unet: ") as caught:
        await onnx_rig.picture()
    assert "model_failed" == caught.value.error_id


async def test_projection_that_nobody_needs(folder: Path, onnx_rig: Any) -> None:
    """The text encoder of SD 1.x may give a projection too, as those of SDXL do; it makes no difference."""
    await onnx_rig.load(folder)
    expected = [await onnx_rig.picture(clip_stop_at_layer=layer) for layer in (-1, -2)]
    file = folder / "text_encoder/model.onnx"
    model = onnx.load(file)
    pooling = onnx.helper.make_node("ReduceMax", ["last_hidden_state"], ["text_embeds"], keepdims=0)
    model.graph.node.append(pooling)
    model.graph.output.append(onnx.helper.make_tensor_value_info("text_embeds", onnx.TensorProto.FLOAT, []))
    onnx.save(model, file)
    await onnx_rig.load(folder)
    for layer, picture in zip((-1, -2), expected, strict=True):
        np.testing.assert_array_equal(picture, await onnx_rig.picture(clip_stop_at_layer=layer))
