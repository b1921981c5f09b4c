"""Prompts to what the UNet attends to, by graphs."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.folder import TextTower
from swarmkernel_backends_onnx.graph import Array
from swarmkernel_diffusion import MAX_PIECES, Conditioning, PromptEncoder

_LAYERS = "hidden_states."
_LAST = "last_hidden_state"
_POOLED = "text_embeds"


@attrs.define(eq=False)
class TextEncoder(PromptEncoder):
    """Encodes prompts with a model's text towers; to be used from one thread."""

    def rows(self, tower: TextTower, text: str) -> list[list[int]]:
        """The token ids of *text*, a row for each piece."""
        return tower.tokenizer.rows(text, MAX_PIECES)

    def run(
        self, tower: TextTower, rows: list[list[int]], layer: int, *, norm: bool
    ) -> tuple[Array, Array | None]:
        """One tower's hidden states (pieces · 77, width), and its pooled projection of the first piece."""
        return _run(tower, np.array(rows), layer, norm=norm)


def _run(tower: TextTower, rows: Array, layer: int, *, norm: bool) -> tuple[Array, Array | None]:
    graph = tower.graph
    last = sum(name.startswith(_LAYERS) for name in graph.outputs) - 1
    if norm and layer == -1:
        wanted = [_LAST]
    elif last < 0:
        raise BackendError(
            f"This model's {graph.name} was exported without its hidden states, so only its last layer can be read;"
            " `swarmkernel export-onnx` keeps them.",
            "unsupported_model",
        )
    else:
        wanted = [f"{_LAYERS}{max(last + 1 + layer, 0)}", *([f"{_LAYERS}{last}", _LAST] if norm else [])]
    pooled = [] if norm else [name for name in (_POOLED,) if name in graph.outputs]
    hidden, *others = graph.run([*wanted, *pooled], {"input_ids": rows})
    if norm and others:
        hidden = _normed(hidden, *others[:2], eps=tower.eps)
    tokens = hidden.reshape(-1, hidden.shape[-1]).astype(np.float32)
    return tokens, others[-1][0].astype(np.float32) if pooled else None


def _normed(hidden: Array, before: Array, after: Array, *, eps: float) -> Array:
    """
    *hidden* through the tower's last layer norm.

    Its weight and bias are not among the outputs; what it made of *before* shows them: a line for each channel.
    """
    x, y = _standard(before, eps), after.reshape(-1, after.shape[-1]).astype(np.float64)
    middle_x, middle_y = x.mean(axis=0), y.mean(axis=0)
    weight = ((x - middle_x) * (y - middle_y)).sum(axis=0) / ((x - middle_x) ** 2).sum(axis=0)
    found: Any = _standard(hidden, eps) * weight + (middle_y - weight * middle_x)
    return np.asarray(found.reshape(hidden.shape))


def _standard(values: Array, eps: float) -> Array:
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps))


def stack(rows: list[Conditioning]) -> dict[str, Array]:
    """What the UNet is fed of a batch's conditionings, by the names of its inputs."""
    fed = {"encoder_hidden_states": np.stack([row.tokens for row in rows])}
    if rows[0].pooled is not None:
        fed[_POOLED] = np.stack([row.pooled for row in rows if row.pooled is not None])
        fed["time_ids"] = np.stack([row.sizes for row in rows if row.sizes is not None])
    return fed
