"""Writing a whole model as ONNX graphs, all of it or nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import torch

from swarmkernel import StartupError
from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.graph_files import compare, run_network, write_graph
from swarmkernel_backends_torch.graphs import Graph, graphs_of
from swarmkernel_backends_torch.libraries import silence
from swarmkernel_backends_torch.loading import Parts, load_parts

#: The graph by whose presence a folder is known to hold all of them: it comes last.
LAST = "unet"


@attrs.frozen
class Export:
    """
    One model to export.

    *prediction* is ``epsilon`` or ``v_prediction`` where its files do not say; *say* prints a line of progress.
    """

    path: Path
    prediction: str | None
    dtype: str
    opset: int
    say: Callable[[str], object]

    def write(self, target: Path, *, in_place: bool) -> None:
        """
        Write the folder *target*, or only the graphs with *in_place*; StartupError says why it cannot be.

        It is made in a folder beside *target* and moved there when all of it is right.
        """
        silence()
        self.say(f"reading {self.path.name}")
        try:
            parts = load_parts(self.path, torch.float32, self.prediction)
        except BackendError as exc:
            raise StartupError(str(exc)) from exc
        self._check_prediction(parts)
        with _unfinished(target) as made:
            self._write_graphs(parts, made)
            if in_place:
                _move_graphs(made, target)
            else:
                self._write_rest(parts, made)
                if target.exists():
                    target.rmdir()  # it is empty
                made.rename(target)
        self.say(f"wrote {target}")

    def _check_prediction(self, parts: Parts) -> None:
        """Of SD 2.x there are both sorts, whose files look the same."""
        is_said = self.path.is_dir() or self.prediction or parts.scheduler["prediction_type"] != "epsilon"
        if parts.family == "sd2" and not is_said:
            raise StartupError(
                f"{self.path.name} does not say what its UNet predicts: add --prediction epsilon (512-base) "
                "or --prediction v_prediction (768-v)"
            )

    def _write_graphs(self, parts: Parts, folder: Path) -> None:
        expected = [run_network(graph) for graph in graphs_of(parts)]
        if self.dtype == "fp16":
            _halve(parts)
        graphs = list(graphs_of(parts))
        for number, (graph, wanted) in enumerate(zip(graphs, expected, strict=True), 1):
            self.say(f"{graph.folder} ({number} of {len(graphs)})")
            write_graph(graph, folder / graph.folder, self.opset)
            (folder / graph.folder / "config.json").write_text(_config(graph))
            found = compare(graph, folder / graph.folder, wanted)
            size = sum(file.stat().st_size for file in (folder / graph.folder).iterdir()) / 1e6
            self.say(f"  {size:.1f} MB; differs from torch by {found:.1e} of the largest value")

    def _write_rest(self, parts: Parts, folder: Path) -> None:
        for n, tower in enumerate(parts.towers):
            name = f"tokenizer{f'_{n + 1}' if n else ''}"
            if self.path.is_dir():
                shutil.copytree(self.path / name, folder / name)
            else:
                tower.tokenizer.save_pretrained(folder / name)
        (folder / "scheduler").mkdir()
        scheduler = {"_class_name": "EulerDiscreteScheduler", **parts.scheduler}
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2) + "\n")
        if self.path.is_dir():
            shutil.copy(self.path / "model_index.json", folder)
        else:
            (folder / "model_index.json").write_text(json.dumps(_index(parts), indent=2) + "\n")


def _halve(parts: Parts) -> None:
    """
    Have the UNet, and a VAE that can stand it, compute in half precision.

    Text encoders stay as they are: their states grow so large that half precision loses digits which tell prompts
    apart, and they work once for each prompt only.
    """
    parts.unet.half()
    if not parts.vae.config.force_upcast:
        parts.vae.half()


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A new folder beside *target* for this export alone, which is gone afterwards unless it was renamed."""
    target = target.absolute()
    folder = target.with_name(f".{target.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _held(folder):
            for left in folder.iterdir():  # by an export that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        raise StartupError(f"another export writes {target}") from None
    except OSError as exc:
        raise StartupError(f"{target} cannot be written: {exc}") from exc


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep every other process from holding *folder*, until the end of this one at the latest; BlockingIOError if one does."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


def _move_graphs(made: Path, target: Path) -> None:
    """Put the graphs into a model's folder, so that it never seems to hold all of them when it does not."""
    (target / LAST / "model.onnx").unlink(missing_ok=True)
    for folder in sorted(made.iterdir(), key=lambda folder: folder.name == LAST):
        (target / folder.name).mkdir(exist_ok=True)
        (target / folder.name / "model.onnx.data").unlink(missing_ok=True)
        for file in sorted(folder.iterdir(), key=lambda file: file.name == "model.onnx"):
            place = target / folder.name / file.name
            if file.name != "config.json" or not place.exists():
                file.replace(place)


def _config(graph: Graph) -> str:
    config = json.loads(graph.config)
    config.pop("_name_or_path", None)  # of this machine
    return json.dumps(config, indent=2) + "\n"


def _index(parts: Parts) -> dict[str, object]:
    xl = parts.family == "sdxl"
    index: dict[str, object] = {
        "_class_name": f"StableDiffusion{'XL' if xl else ''}Pipeline",
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if xl:
        index |= {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
    return index
