"""Writing one graph to a file, and comparing it with the network that it was made from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from swarmkernel import StartupError
from swarmkernel_backends_torch.graphs import COMPARED, TRACED, Graph

if TYPE_CHECKING:
    import onnx

Array: TypeAlias = NDArray[Any]
#: A file of protocol buffers ends at 2 GB: weights of more lie beside it.
MAX_FILE = 1_900_000_000
#: By how much the outputs of a graph may differ from those of its network in float32, relative to the largest.
#: A sound UNet in half precision does so by up to four hundredths.
BOUNDS = {torch.float32: 1e-3, torch.float16: 1e-1}


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


def run_network(graph: Graph) -> list[list[Array]]:
    """What the network gives for each of the inputs that it is compared on."""
    with torch.inference_mode():
        found = [graph.module(*graph.example(size)) for size in COMPARED]
    return [
        [tensor.float().numpy() for tensor in (given if isinstance(given, tuple) else (given,))]
        for given in found
    ]


def compare(graph: Graph, folder: Path, expected: Sequence[Sequence[Array]]) -> float:
    """
    By how much the graph's outputs differ from these of the network at most, relative to the largest.

    StartupError above the bound.
    """
    import onnxruntime  # noqa: PLC0415  # an extra

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    worst = 0.0
    for size, wanted in zip(COMPARED, expected, strict=True):
        inputs = zip(graph.inputs, graph.example(size), strict=True)
        found = session.run(list(graph.outputs), {name: tensor.numpy() for name, tensor in inputs})
        worst = max(worst, *map(_difference, wanted, found))
    if not worst <= (bound := BOUNDS[graph.dtype]):  # not a number is no agreement either
        raise StartupError(f"{graph.folder} differs by {worst:.1e} as ONNX; at most {bound:.0e} is right")
    return worst


def _difference(wanted: Array, found: Array) -> float:
    largest = float(np.abs(wanted).max())
    return float(np.abs(wanted - found.astype(np.float32)).max()) / (largest or 1.0)
