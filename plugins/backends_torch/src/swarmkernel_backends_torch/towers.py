"""The text towers of single-file checkpoints, which keep the names of the libraries they were trained with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from swarmkernel_backend_api import BackendError

Tensors = Mapping[str, torch.Tensor]

#: OpenCLIP's names (regular expressions) and what transformers calls the same.
_OPEN_CLIP = (
    (r"token_embedding\.", "embeddings.token_embedding."),
    (r"positional_embedding$", "embeddings.position_embedding.weight"),
    (r"ln_final\.", "final_layer_norm."),
    (r"transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_(\d)\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.", ".self_attn."),
)


def build_tower(kind: Any, config: Any, tensors: Tensors, dtype: torch.dtype) -> Any:
    """
    A transformers model of class *kind* with exactly these weights; BackendError names what is missing.

    Names are without ``text_model.``; tensors that the model has no use for are left out.
    """
    nested = kind.__name__ == "CLIPTextModelWithProjection"
    named = {
        f"text_model.{name}" if nested and not name.startswith("text_projection") else name: tensor
        for name, tensor in tensors.items()
    }
    model, info = kind.from_pretrained(
        None, config=config, state_dict=named, dtype=dtype, output_loading_info=True
    )
    refuse_missing(info["missing_keys"], "text encoder")
    return model


def refuse_missing(names: Any, where: str) -> None:
    """BackendError when there are names of tensors that the files of a network should have had."""
    if names:
        some = ", ".join(sorted(names)[:3])
        raise BackendError(
            f"The {where} is not whole: {len(names)} tensors are missing ({some}).", "model_corrupt"
        )


def clip_tensors(checkpoint: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    """The weights of a CLIP tower that was saved by transformers under *prefix*."""
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in checkpoint.items()
        if key.startswith(prefix) and not key.endswith("position_ids")
    }


def open_clip_tensors(checkpoint: Tensors, prefix: str, layers: int) -> dict[str, torch.Tensor]:
    """The weights of the first *layers* layers of an OpenCLIP tower that was saved under *prefix*."""
    found: dict[str, torch.Tensor] = {}
    for key, tensor in checkpoint.items():
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        layer = re.match(r"transformer\.resblocks\.(\d+)\.", name)
        if layer is not None and int(layer[1]) >= layers:
            continue
        for pattern, new in _OPEN_CLIP:
            name = re.sub(pattern, new, name)
        found |= _open_clip_tensor(name, tensor)
    return found


def _open_clip_tensor(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """OpenCLIP stacks query, key and value in one tensor, and applies its projection from the other side."""
    if match := re.search(r"\.in_proj_(weight|bias)$", name):
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{name[: match.start()]}.{part}_proj.{match[1]}": piece for part, piece in parts}
    if name == "text_projection":
        return {"text_projection.weight": tensor.T.contiguous()}
    return {name: tensor}
