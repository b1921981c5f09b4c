"""`swarmkernel export-onnx`: the folder that it writes, and that its graphs compute what the networks do."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from swarmkernel import StartupError
from swarmkernel_backends_torch import graph_files
from swarmkernel_backends_torch.commands import export_onnx
from swarmkernel_backends_torch.loading import load_parts

GRAPHS = {"text_encoder", "unet", "vae_decoder", "vae_encoder"}
FILES = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    *(f"{name}/{file}" for name in GRAPHS for file in ("config.json", "model.onnx")),
}
#: What torch 2.13 says of its own tracing, and transformers of tensors as conditions.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(*args, **more):
    """The command in this process: exit code and output."""
    found = CliRunner().invoke(export_onnx, [str(arg) for arg in args], **more)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return SimpleNamespace(code=found.exit_code, text=found.output)


@pytest.fixture(scope="module", name="exported")
def _exported(models, tmp_path_factory):
    """A way to have a family's model exported once; its folder."""
    root = tmp_path_factory.mktemp("onnx")

    def exported(family, dtype="fp32"):
        out = root / f"{family}-{dtype}"
        if not out.exists():
            assert 0 == run(models.folder(family), out, "--dtype", dtype).code
        return out

    return exported


def session(folder, part):
    """A graph at work."""
    return onnxruntime.InferenceSession(folder / part / "model.onnx", providers=["CPUExecutionProvider"])


def files_in(folder):
    """The names of all files in it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def largest(expected, found):
    """The largest difference, relative to the largest value."""
    return np.abs(expected - found).max() / np.abs(expected).max()


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_the_folder_is_whole(exported, models, family):
    """It holds all graphs with their configurations, tokenizers and the scheduler, and nothing else."""
    second = {f"text_encoder_2/{file}" for file in ("config.json", "model.onnx")} | {
        "tokenizer_2/tokenizer.json"
    }
    found = files_in(exported(family))
    assert FILES | (second if family == "sdxl" else set()) == {
        f for f in found if "tokenizer_config" not in f
    }
    source = json.loads((models.folder(family) / "vae/config.json").read_text())
    config = json.loads((exported(family) / "vae_decoder/config.json").read_text())
    assert source["scaling_factor"] == config["scaling_factor"]
    assert "_name_or_path" not in config


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize(("batch", "height", "width", "length"), [(1, 8, 8, 77), (5, 9, 14, 231)])
def test_the_unet_takes_any_size(exported, models, family, batch, height, width, length):
    """A UNet's graph predicts what the network does, for batches, sizes and lengths that it was not made with."""
    parts = load_parts(models.folder(family), torch.float32, None)
    unet = parts.unet
    generator = torch.Generator().manual_seed(1)
    feed = {
        "sample": torch.randn(batch, 4, height, width, generator=generator),
        "timestep": torch.linspace(1.5, 990, batch),
        "encoder_hidden_states": torch.randn(
            batch, length, unet.config.cross_attention_dim, generator=generator
        ),
    }
    added = {}
    if family == "sdxl":
        added = {"text_embeds": torch.randn(batch, 64), "time_ids": torch.full((batch, 6), 512.0)}
    with torch.inference_mode():
        expected = unet(*feed.values(), added_cond_kwargs=added or None, return_dict=False)[0]
    inputs = {name: tensor.numpy() for name, tensor in (feed | added).items()}
    [found] = session(exported(family), "unet").run(["out_sample"], inputs)
    assert largest(expected.numpy(), found) < 1e-4


@pytest.mark.parametrize(
    ("family", "part", "index", "pooled"),
    [("sd1", "text_encoder", 0, "pooler_output"), ("sdxl", "text_encoder_2", 1, "text_embeds")],
)
def test_every_layer_of_a_tower_can_be_read(exported, models, family, part, index, pooled):
    """A text encoder's outputs are the last state, what it pools and every layer's state, by name."""
    tower = load_parts(models.folder(family), torch.float32, None).towers[index]
    ids = torch.tensor([[49406, 320, 736, *[49407] * 74]])
    with torch.inference_mode():
        found = tower.encoder(ids, output_hidden_states=True)
    expected = {"last_hidden_state": found.last_hidden_state, pooled: getattr(found, pooled)}
    expected |= {f"hidden_states.{n}": state for n, state in enumerate(found.hidden_states)}
    names = [output.name for output in session(exported(family), part).get_outputs()]
    assert list(expected) == names
    for wanted, got in zip(
        expected.values(),
        session(exported(family), part).run(names, {"input_ids": ids.numpy()}),
        strict=True,
    ):
        assert largest(wanted.numpy(), got) < 1e-4


def test_latents_become_pixels_and_back(exported, models):
    """The VAE's graphs decode latents that were scaled already, and encode to mean and log variance."""
    vae = load_parts(models.folder("sd1"), torch.float32, None).vae
    latents, pixels = torch.randn(1, 4, 7, 12), torch.rand(1, 3, 14, 24) * 2 - 1
    with torch.inference_mode():
        decoded, encoded = vae.decode(latents).sample, vae.encode(pixels).latent_dist.parameters
    [found] = session(exported("sd1"), "vae_decoder").run(["sample"], {"latent_sample": latents.numpy()})
    assert largest(decoded.numpy(), found) < 1e-4
    [found] = session(exported("sd1"), "vae_encoder").run(["latent_parameters"], {"sample": pixels.numpy()})
    assert largest(encoded.numpy(), found) < 1e-4


def test_half_precision(exported):
    """In fp16, graphs take and give float16, but time stays float32, and so does a VAE that would overflow."""
    kinds = {
        part: {put.name: put.type for put in session(exported("sdxl", "fp16"), part).get_inputs()}
        for part in ("unet", "vae_decoder")
    }
    assert {"latent_sample": "tensor(float)"} == kinds["vae_decoder"]
    half, full = "tensor(float16)", "tensor(float)"
    expected = {"sample": half, "timestep": full, "encoder_hidden_states": half, "text_embeds": half}
    assert expected | {"time_ids": full} == kinds["unet"]


def test_a_single_file_gives_the_same_graphs(models, tmp_path, exported):
    """A checkpoint file is exported as the folder that it was made from is, with a tokenizer and an index."""
    said = run(models.file("sd2"), tmp_path / "out", "--prediction", "v_prediction")
    assert 0 == said.code
    assert FILES == {f for f in files_in(tmp_path / "out") if "tokenizer_config" not in f}
    scheduler = json.loads((tmp_path / "out/scheduler/scheduler_config.json").read_text())
    assert "v_prediction" == scheduler["prediction_type"]
    feed = {"latent_sample": np.ones((1, 4, 8, 8), np.float32)}
    [[expected], [found]] = (
        session(folder, "vae_decoder").run(None, feed) for folder in (exported("sd2"), tmp_path / "out")
    )
    np.testing.assert_array_equal(expected, found)


def test_an_unsaid_prediction_is_asked_for(models, tmp_path):
    """A file of SD 2.x, of which there are two sorts, is refused until somebody says what it predicts."""
    with pytest.raises(StartupError, match="--prediction epsilon"):
        run(models.file("sd2"), tmp_path / "out")
    assert [] == list(tmp_path.iterdir())


def test_in_place(models, tmp_path):
    """With --in-place the graphs stand beside the weights, which stay as they are, and replace older graphs."""
    folder = shutil.copytree(models.folder("sd1"), tmp_path / "model")
    before = {name: (folder / name).read_bytes() for name in files_in(folder)}
    for old in ("model.onnx", "model.onnx.data"):
        (folder / "unet" / old).write_text("old")
    assert 0 == run(folder, "--in-place").code
    assert before == {name: (folder / name).read_bytes() for name in before}
    assert {f for f in FILES if "vae_" in f or f.endswith(".onnx")} == files_in(folder) - set(before)
    assert session(folder, "unet").get_inputs()
    assert [folder] == list(tmp_path.iterdir())


def test_large_weights_lie_beside_the_graph(exported, models, tmp_path, monkeypatch):
    """Weights that are too large for the graph's own file are in one other file, wherever the folder is moved."""
    whole = exported("sd1")
    monkeypatch.setattr(graph_files, "MAX_FILE", 1_000_000)
    assert 0 == run(models.folder("sd1"), tmp_path / "out").code
    (tmp_path / "out").rename(tmp_path / "moved")
    found = {f for f in files_in(tmp_path / "moved") if ".onnx" in f}
    assert {f for f in FILES if f.endswith(".onnx")} < found
    assert "unet/model.onnx.data" in found
    feed = {"latent_sample": np.ones((1, 4, 8, 8), np.float32)}
    [[expected], [got]] = (
        session(folder, "vae_decoder").run(None, feed) for folder in (whole, tmp_path / "moved")
    )
    np.testing.assert_array_equal(expected, got)


def test_weights_that_are_half_anyway_are_stored_so(exported, models, tmp_path):
    """The graphs of a model in half precision compute in float32 and take half the room."""
    half, full = tmp_path / "half", exported("sd1")
    copy.deepcopy(models.pipeline("sd1").unet).half().save_pretrained(tmp_path / "unet")
    folder = shutil.copytree(models.folder("sd1"), tmp_path / "model")
    shutil.rmtree(folder / "unet")
    shutil.copytree(tmp_path / "unet", folder / "unet")
    assert 0 == run(folder, half).code
    sizes = [(out / "unet/model.onnx").stat().st_size for out in (half, full)]
    assert sizes[0] < 0.7 * sizes[1]
    assert "tensor(float)" == session(half, "unet").get_inputs()[0].type


def test_what_would_be_overwritten_is_refused(models, tmp_path):
    """OUT must not hold anything, and is one of OUT and --in-place."""
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(StartupError, match="not an empty folder"):
        run(models.folder("sd1"), tmp_path)
    with pytest.raises(StartupError, match="single file"):
        run(models.file("sd1"), "--in-place")
    assert 2 == run(models.folder("sd1")).code
    assert 2 == run(models.folder("sd1"), tmp_path / "out", "--in-place").code
    assert "mine" == (tmp_path / "kept").read_text()


def test_a_graph_that_differs_is_refused(models, tmp_path, monkeypatch):
    """If a graph does not compute what its network does, the command fails and leaves nothing."""
    real = graph_files._narrow

    def spoil(graph):
        real(graph)
        for weight in (t for t in graph.initializer if len(t.dims) == 4):
            weight.raw_data = bytes(len(weight.raw_data))

    monkeypatch.setattr(graph_files, "_narrow", spoil)
    (tmp_path / "out").mkdir()
    with pytest.raises(StartupError, match=r"unet differs by \S+ as ONNX"):
        run(models.folder("sd1"), tmp_path / "out")
    assert [tmp_path / "out"] == list(tmp_path.iterdir())
    assert [] == list((tmp_path / "out").iterdir())


def test_libraries_that_are_missing_are_named(models, tmp_path, monkeypatch):
    """Without the extra, the command says what to install."""
    monkeypatch.setattr("swarmkernel_backends_torch.commands.find_spec", lambda name: None)
    with pytest.raises(StartupError, match=r"pip install 'swarmkernel-backends-torch\[onnx\]'"):
        run(models.folder("sd1"), tmp_path / "out")


def test_a_name_of_this_server(tmp_path, models):
    """MODEL may be the name of a model in this server's folders; a class says what a file predicts."""
    shelf = tmp_path / "data/Models/Stable-Diffusion"
    shelf.mkdir(parents=True)
    shutil.copy(models.file("sd2"), shelf / "mine-768.safetensors")
    command = [Path(sys.executable).with_name("swarmkernel"), "export-onnx", "--data-dir", tmp_path / "data"]
    done = subprocess.run(
        [*command, "mine-768", tmp_path / "out"], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    assert f"wrote {tmp_path / 'out'}" == done.stdout.splitlines()[-1]
    scheduler = json.loads((tmp_path / "out/scheduler/scheduler_config.json").read_text())
    assert "v_prediction" == scheduler["prediction_type"]
    done = subprocess.run([*command, "nobody", tmp_path / "no"], capture_output=True, text=True, check=False)
    assert (1, True) == (done.returncode, "no model of this server" in done.stderr)


def test_killed(tmp_path, models):
    """An export that is killed leaves no OUT, and the next one clears away what it left."""
    out = tmp_path / "out"
    command = [Path(sys.executable).with_name("swarmkernel"), "export-onnx", models.folder("sd1"), out]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in running.stdout:
        if line.startswith("unet"):
            break
    time.sleep(0.3)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    running.stdout.close()
    assert [".out.part"] == [path.name for path in tmp_path.iterdir()]
    assert 0 == run(models.folder("sd1"), out).code
    assert [out] == list(tmp_path.iterdir())
