"""What a model must be besides whole, so that it fails when it is loaded and not in the middle of a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_torch.checkpoint import check_safetensors

if TYPE_CHECKING:
    from swarmkernel_backends_torch.loading import Parts, TextTower

#: Tokens of a row: a start, an end and one between them.
_SHORTEST = 3


def refuse_incomplete(path: Path, names: Iterable[str]) -> None:
    """Each of these must be there: the libraries look elsewhere for what is not, and then say that it is nowhere."""
    for name in names:
        if not (path / name).exists():
            raise BackendError(f"{path.name} has no {name}.", "model_corrupt")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise BackendError(f"{path.name} is not a JSON object.", "model_corrupt")
    return found


def refuse_unsafe(path: Path, names: Iterable[str]) -> None:
    """Of a folder, each network must have safetensors weights, and nothing may be code."""
    for name in names:
        weights = list((path / name).glob("*.safetensors"))
        if not weights and any((path / name).glob("*.bin")):
            raise BackendError(
                f"{path.name}/{name} has its weights as a pickle file only, which can run code when it is loaded; "
                "convert it to safetensors.",
                "unsafe_model",
            )
        if not weights:
            raise BackendError(f"{path.name} has no weights in {name}.", "model_corrupt")
        for file in weights:
            check_safetensors(file)
    if any(path.rglob("*.py")):
        raise BackendError(f"{path.name} contains Python code; remove it to load the model.", "unsafe_model")


def refuse_other_inputs(parts: Parts) -> None:
    """The UNet must take what the VAE gives."""
    wants, has = parts.unet.config.in_channels, parts.vae.config.latent_channels
    if wants != has:
        raise BackendError(
            f"This model's UNet takes {wants} channels where its VAE has {has}: it is made for inpainting, depth or"
            " editing, and cannot make a picture from a prompt alone.",
            "unsupported_model",
        )


def fit_tokenizer(tower: TextTower) -> None:
    """
    Keep a tokenizer to rows that its encoder takes, and refuse one that gives ids which it does not have.

    On CUDA either would break the process, not only the job.
    """
    tokenizer, encoder = tower.tokenizer, tower.encoder
    highest, known = max(tokenizer.get_vocab().values()), encoder.get_input_embeddings().num_embeddings
    if highest >= known:
        raise BackendError(
            f"A tokenizer of this model gives numbers up to {highest}, of which its text encoder knows {known} only.",
            "model_corrupt",
        )
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    if length < _SHORTEST or None in {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}:
        raise BackendError(
            "A tokenizer of this model must have a start, an end and a padding token, and room for one more.",
            "model_corrupt",
        )
    tokenizer.model_max_length = length


def check_scaling(vae: Any) -> None:
    """What latents are multiplied by must be a number above 0."""
    factor = vae.config.scaling_factor
    if not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise BackendError(f"A VAE cannot have a scaling_factor of {str(factor)[:40]}.", "model_corrupt")
