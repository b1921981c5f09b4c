"""Small models on disk in both forms, made once, and backends of both engines to load them with."""

import fcntl
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

# Threads that torch did not start itself take their number of compute threads from here.
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1] / "backends_torch"))

import attrs
import numpy as np
import onnx
import pytest
import tiny_models
from rigs import PREDICTION, Rig, job, levels, one_thread, rig_of, torch_rig  # noqa: F401  # fixtures, most of them

from swarmkernel_backends_onnx.backend import OnnxBackend
from swarmkernel_backends_onnx.graph import Graph
from swarmkernel_backends_onnx.settings import OnnxSettings
from swarmkernel_backends_torch.export import Export

STARTER = Path("plugins/starter_model/src/swarmkernel_starter_model/models/starter")
#: What the UNet of SD 1.x takes.
INPUTS = ("sample", "timestep", "encoder_hidden_states")


@attrs.define
class Models:
    """Diffusers folders that hold safetensors weights and ONNX graphs, made when one is first asked for."""

    root: Path

    def folder(self, family: str) -> Path:
        """The model of that family: sd1, sd2 or sdxl."""
        return self._once(family, lambda path: export(family, path))

    @property
    def starter(self) -> Path:
        """The model that ships with the server, which draws what the prompt says."""
        return Path.cwd() / STARTER

    def half(self, path: Path) -> Path:
        """The model of SD 1.x at *path*, whose unet takes and gives half precision."""
        shutil.copytree(self.folder("sd1"), path)
        model = onnx.load(path / "unet/model.onnx")
        graph = model.graph
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        for node in graph.node:
            node.input[:] = [f"{name}.wide" if name in INPUTS else name for name in node.input]
            node.output[:] = ["wide" if name == "out_sample" else name for name in node.output]
        wide = [cast(name, f"{name}.wide", onnx.TensorProto.FLOAT) for name in INPUTS]
        nodes = [*wide, *graph.node, cast("wide", "out_sample", onnx.TensorProto.FLOAT16)]
        del graph.node[:]
        graph.node.extend(nodes)
        onnx.save(model, path / "unet/model.onnx")
        return path

    def broken(self, path: Path, part: str) -> Path:
        """The model of SD 1.x at *path*, whose unet or vae gives no numbers."""
        shutil.copytree(self.folder("sd1"), path)
        file = path / ("unet" if part == "unet" else "vae_decoder") / "model.onnx"
        model = onnx.load(file)
        last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
        channels = 4 if part == "unet" else 3
        bias = onnx.numpy_helper.from_array(np.full(channels, np.nan, np.float32), "nan")
        model.graph.initializer.append(bias)
        last.input[2] = "nan"
        onnx.save(model, file)
        return path

    def _once(self, name: str, make: Callable[[Path], object]) -> Path:
        """The folder of that name, made by whichever of the processes of the tests comes first."""
        path = self.root / name
        with (self.root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                make(path)
        return path


def cast(name: str, to: str, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [name], [to], to=kind)


def export(family: str, path: Path) -> None:
    """A model of that family with random weights, in both forms."""
    tiny_models.save(tiny_models.pipeline(family, prediction=PREDICTION[family]), path)
    Export(path, None, "fp32", 18, lambda _: None).write(path, in_place=True)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    own = tmp_path_factory.getbasetemp()
    root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "onnx-models"
    root.mkdir(exist_ok=True)
    return Models(root)


def rig(**settings: Any) -> Any:
    return rig_of(OnnxBackend(OnnxSettings(**{"provider": "CPU", "threads": 1} | settings)))


@pytest.fixture
async def onnx_rig() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


@pytest.fixture
def make_rig() -> Callable[..., Any]:
    """A backend with other settings, as an async context manager."""
    return rig


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> Callable[[Graph], list[int]]:
    """Lists the rows of each forward pass of a graph from now on."""

    def count(graph: Graph) -> list[int]:
        rows: list[int] = []
        run = Graph.run

        def counted(self: Graph, outputs: Any, feeds: Any) -> Any:
            if self is graph:
                rows.append(len(feeds["sample"]))
            return run(self, outputs, feeds)

        monkeypatch.setattr(Graph, "run", counted)
        return rows

    return count
