"""The command ``swarmkernel export-onnx``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import click

from swarmkernel import StartupError, settings_options, with_store
from swarmkernel_models_api import LoadModel, find_model

#: What diffusers calls what a UNet predicts.
PREDICTIONS = ("epsilon", "v_prediction")


def commands() -> Iterable[click.Command]:
    """The one command."""
    return (export_onnx,)


@attrs.frozen
class Source:
    """The model to export, and what its UNet predicts (None: its files say)."""

    path: Path
    prediction: str | None


@click.command("export-onnx")
@settings_options
@click.argument("model")
@click.argument("out", required=False, type=click.Path(path_type=Path))
@click.option("--in-place", is_flag=True, help="Write into the folder MODEL, beside the safetensors weights.")
@click.option("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True)
@click.option(
    "--opset", type=click.IntRange(15, 20), default=18, show_default=True, help="Of ONNX's operators."
)
@click.option("--prediction", type=click.Choice(PREDICTIONS), help="What the UNet of a single file predicts.")
def export_onnx(
    model: str,
    out: Path | None,
    *,
    in_place: bool,
    dtype: str,
    opset: int,
    prediction: str | None,
    **options: Any,
) -> None:
    """Write a model as ONNX graphs, which backends without torch can load.

    MODEL is a path (a diffusers folder or a safetensors file) or the name of a model of this server. OUT is a folder
    that does not exist or is empty. Each graph is run and compared with the network that it was made from.
    """
    _check_libraries()
    source = _source(model, prediction, options)
    target = _target(source.path, out, in_place=in_place)
    from swarmkernel_backends_torch.export import Export  # noqa: PLC0415  # torch

    before = signal.signal(signal.SIGTERM, _end)
    try:
        Export(source.path, source.prediction, dtype, opset, click.echo).write(target, in_place=in_place)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: object) -> None:
    """End as a signal would, but clear away first what is not finished."""
    sys.exit(128 + number)


def _check_libraries() -> None:
    if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
        raise StartupError(
            f"export-onnx needs {' and '.join(missing)}: pip install 'swarmkernel-backends-torch[onnx]'"
        )


def _source(model: str, prediction: str | None, options: Mapping[str, Any]) -> Source:
    if (path := Path(model)).exists():
        _refuse_prediction(path, prediction)
        return Source(path, prediction)
    found = with_store(lambda services: find_model(services, model), **options)
    if found is None:
        raise StartupError(f"{model!r} is no file or folder, and no model of this server has this name")
    _refuse_prediction(found.path, prediction)
    from swarmkernel_backends_torch.backend import prediction_of  # noqa: PLC0415  # torch

    stated = found.metadata.prediction_type
    request = LoadModel(found.name, str(found.path), class_id=found.class_id, prediction_type=stated)
    return Source(found.path, prediction or prediction_of(request))


def _refuse_prediction(path: Path, prediction: str | None) -> None:
    if prediction and path.is_dir():
        raise StartupError(
            f"{path} is a folder, whose scheduler_config.json says what its UNet predicts:"
            " --prediction is for single files"
        )


def _target(source: Path, out: Path | None, *, in_place: bool) -> Path:
    if in_place == (out is not None):
        raise click.UsageError("Say either OUT or --in-place.")
    if out is None:
        if not source.is_dir():
            raise StartupError(f"{source} is a single file; --in-place needs a diffusers folder")
        return source
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise StartupError(f"{out} exists and is not an empty folder")
    return out
