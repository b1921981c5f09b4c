"""Writing one graph to a file, and comparing it with the network that it was made from."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from swarmkernel import StartupError
from swarmkernel_backends_torch.graphs import COMPARED, TRACED, Graph

if TYPE_CHECKING:
    import onnx

#: A file of protocol buffers ends at 2 GB: weights of more lie beside it.
MAX_FILE = 1_900_000_000
#: By how much the outputs of a graph may differ from those of its network, relative to the largest.
BOUNDS = {torch.float32: 1e-3, torch.float16: 3e-2}


def write_graph(graph: Graph, folder: Path, opset: int) -> None:
    """Write ``model.onnx`` into *folder*, and ``model.onnx.data`` beside it where it is large."""
    import onnx  # noqa: PLC0415  # an extra

    folder.mkdir()
    with TemporaryDirectory(dir=folder.parent, prefix="traced-") as traced:
        file = Path(traced) / "model.onnx"
        _trace(graph, file, opset)
        model = onnx.load(file)
    _narrow(model.graph)
    onnx.save_model(
        model,
        folder / "model.onnx",
        save_as_external_data=sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MAX_FILE,
        location="model.onnx.data",
    )


def _trace(graph: Graph, file: Path, opset: int) -> None:
    # The exporter by torch.export takes ten times as long on these networks, for graphs that run no faster; and
    # this one needs onnx alone.
    with warnings.catch_warnings(), torch.inference_mode(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # it is deprecated, and warns of each size that is fixed
        torch.onnx.export(
            graph.module,
            graph.example(TRACED),
            str(file),
            dynamo=False,
            opset_version=opset,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=graph.dynamic_axes,
        )


def _narrow(graph: onnx.GraphProto) -> None:
    """
    Store weights as float16 where that loses nothing, and widen them again when the graph is loaded.

    Models are published in half precision mostly; so a graph that computes in float32 is not twice as large.
    """
    import onnx  # noqa: PLC0415  # an extra

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size > 1 and np.array_equal(values, half.astype(np.float32)):
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
            casts.append(
                onnx.helper.make_node("Cast", [tensor.name], [name], name=name, to=onnx.TensorProto.FLOAT)
            )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def compare(graph: Graph, folder: Path) -> float:
    """By how much the graph's outputs differ at most, relative to the largest; StartupError above the bound."""
    import onnxruntime  # noqa: PLC0415  # an extra

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in COMPARED:
        inputs = graph.example(size)
        with torch.inference_mode():
            expected = graph.module(*inputs)
        feed = {name: tensor.numpy() for name, tensor in zip(graph.inputs, inputs, strict=True)}
        found = session.run(list(graph.outputs), feed)
        wanted = expected if isinstance(expected, tuple) else (expected,)
        worst = max(worst, *map(_difference, wanted, found))
    if not worst <= (bound := BOUNDS[graph.dtype]):  # not a number is no agreement either
        raise StartupError(f"{graph.folder} differs by {worst:.1e} as ONNX; at most {bound:.0e} is right")
    return worst


def _difference(expected: torch.Tensor, found: np.ndarray[Any, Any]) -> float:
    wanted = expected.float().numpy()
    largest = float(np.abs(wanted).max())
    return float(np.abs(wanted - found.astype(np.float32)).max()) / (largest or 1.0)
