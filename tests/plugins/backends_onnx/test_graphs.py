"""One network on a device, and which device."""

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, save

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx import OnnxSettings, providers
from swarmkernel_backends_onnx.backend import OnnxBackend
from swarmkernel_backends_onnx.graph import Graph
from swarmkernel_backends_onnx.providers import Device, pick_device, probe, works

CPU = Device("CPU", OnnxSettings(threads=1))


def written(folder: Path, kind: int, *, shape: Any = ("n", 4)) -> Path:
    """A model folder with one network, which adds a number to itself and multiplies it by itself."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Mul", ["x", "x"], ["square"]),
    ]
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "twice", "square")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    (folder / "net").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save(model, folder / "net/model.onnx")
    return folder


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT, np.float32),
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.INT64, np.int64),
        (TensorProto.INT32, np.int32),
    ],
)
def test_bound_runs_are_plain_runs(tmp_path: Path, kind: int, dtype: Any) -> None:
    """Through bindings come the numbers of a plain run, in the types that the graph wants, in the order of the names."""
    graph = Graph.load(written(tmp_path, kind), "net", CPU)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::-1]
    expected = graph.session.run(["square", "twice"], {"x": np.ascontiguousarray(x, dtype)})
    found = graph.run(["square", "twice"], {"x": x})
    kept = graph.run(["square", "twice"], {"x": graph.put("x", x)})
    assert dtype == found[0].dtype
    for one, other, another in zip(expected, found, kept, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, another)


def test_results_outlive_their_run(tmp_path: Path) -> None:
    """What one run gave is not changed by the next."""
    graph = Graph.load(written(tmp_path, TensorProto.FLOAT), "net", CPU)
    (first,) = graph.run(["twice"], {"x": np.ones((3, 4))})
    for n in range(20):
        graph.run(["twice"], {"x": np.full((3, 4), n)})
    np.testing.assert_array_equal(np.full((3, 4), 2), first)


async def test_real_networks_run_bound_as_plain(models: Any, onnx_rig: Any) -> None:
    """A UNet gives the very same numbers bound and plain."""
    await onnx_rig.load(models.folder("sd1"))
    unet = onnx_rig.backend._sampler.parts.unet
    random = np.random.default_rng(0)
    fed = {
        "sample": random.standard_normal((2, 4, 16, 16), np.float32),
        "timestep": np.array([500, 20], np.float32),
        "encoder_hidden_states": random.standard_normal((2, 77, 64), np.float32),
    }
    np.testing.assert_array_equal(unet.session.run(["out_sample"], fed)[0], unet.run(["out_sample"], fed)[0])


def test_unknown_types_are_refused(tmp_path: Path) -> None:
    """A graph with an input of a type that is not known here is refused with both names."""
    with pytest.raises(BackendError, match=r"net takes x as tensor\(bool\)|could not be loaded"):
        Graph.load(written(tmp_path, TensorProto.BOOL), "net", CPU)


def test_settings_reach_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, arena and the level of optimisation are those of the settings; threads else those of the server."""
    settings = OnnxSettings(threads=3, arena=False, optimization="basic")
    options = Device("CPU", settings).session(probe()).get_session_options()
    assert (3, False) == (options.intra_op_num_threads, options.enable_cpu_mem_arena)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    own = Device("CPU", attrs.evolve(settings, threads=0)).session(probe()).get_session_options()
    assert 2 == own.intra_op_num_threads
    assert ort.GraphOptimizationLevel.ORT_ENABLE_BASIC == options.graph_optimization_level


def test_the_cpu_always_works() -> None:
    """The probe runs on the CPU, and auto finds something that works."""
    assert works(CPU)
    assert works(pick_device(OnnxSettings()))


@pytest.mark.parametrize(("provider", "advice"), providers._ADVICE.items())
async def test_missing_providers_are_told(provider: str, advice: str) -> None:
    """A provider that is asked for and missing stops the start, with what there is and how to get it."""
    device = Device(provider, OnnxSettings())
    if works(device):
        pytest.skip("this machine has it")
    with pytest.raises(BackendError) as caught:
        await OnnxBackend(OnnxSettings(provider=provider)).start()  # type: ignore[arg-type]
    assert "no_device" == caught.value.error_id
    assert f"{provider} is not available here; there is " in caught.value.text
    assert "CPU" in caught.value.text
    assert advice in caught.value.text


def test_no_fallback_in_silence(tmp_path: Path) -> None:
    """A provider that has gone since the start is an error at loading, not a slow CPU."""
    missing = [name for name in providers._ADVICE if not works(Device(name, OnnxSettings()))]
    device = attrs.evolve(CPU, provider=missing[0])
    with pytest.raises(BackendError, match=r"does not work here any more|could not be loaded"):
        Graph.load(written(tmp_path, TensorProto.FLOAT), "net", device)


def test_nothing_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """Looking for a provider prints nothing, whatever is missing."""
    for name in providers.NAMES:
        works(Device(name, OnnxSettings()))
    assert ("", "") == capfd.readouterr()
