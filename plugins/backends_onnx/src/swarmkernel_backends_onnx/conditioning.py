"""Prompts to what the UNet attends to."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import attrs
import numpy as np

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.folder import Parts, TextTower
from swarmkernel_backends_onnx.graph import Array

#: Prompts whose conditioning is kept: users repeat theirs, and the negative one is nearly always the same.
CACHED = 64
#: A prompt is cut into at most this many pieces of 75 tokens.
MAX_PIECES = 32
_LAYERS = "hidden_states."
_LAST = "last_hidden_state"


@attrs.frozen(eq=False)
class Conditioning:
    """
    What one row of a batch is conditioned on.

    *tokens*: (length, width); *pooled*: (width,) and *sizes*: (6,) for SDXL, else None.
    """

    tokens: Array
    pooled: Array | None = None
    sizes: Array | None = None


@attrs.define(eq=False)
class TextEncoder:
    """
    Encodes prompts with a model's text towers; to be used from one thread.

    A prompt longer than a tower's 77 positions is encoded in pieces of 75 tokens that are then joined.
    """

    parts: Parts
    _cache: OrderedDict[tuple[str, int, int | None], tuple[Array, Array | None]] = attrs.field(
        factory=OrderedDict, init=False
    )

    def pieces(self, text: str) -> int:
        """How many pieces *text* needs."""
        return max(len(tower.tokenizer.rows(text, MAX_PIECES)) for tower in self.parts.towers)

    def encode(self, text: str, pieces: int, stop_at: int | None, size: tuple[int, int]) -> Conditioning:
        """
        The conditioning of *text*, padded to *pieces* pieces.

        *stop_at* is the layer to read, counted from the end (-1 the last); None the one the family was trained with.
        *size* is (height, width) in pixels, which SDXL is told.
        """
        key = (text, pieces, stop_at)
        if key not in self._cache:
            self._cache[key] = self._encode(text, pieces, stop_at)
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        tokens, pooled = self._cache[key]
        if pooled is None:
            return Conditioning(tokens)
        # Original size, crop offset, target size: what SDXL was trained to be told (arXiv:2307.01952, section 2.2).
        return Conditioning(tokens, pooled, np.array([*size, 0, 0, *size], dtype=np.float32))

    def forget(self) -> None:
        """Drop what is cached."""
        self._cache.clear()

    def _encode(self, text: str, pieces: int, stop_at: int | None) -> tuple[Array, Array | None]:
        xl = self.parts.family == "sdxl"
        layer = layer_of(self.parts.family, stop_at)
        found = []
        for tower in self.parts.towers:
            rows = tower.tokenizer.rows(text, MAX_PIECES)
            rows += [tower.tokenizer.row()] * (pieces - len(rows))
            found.append(_run(tower, np.array(rows), layer, norm=not xl))
        tokens = np.concatenate([hidden for hidden, _ in found], axis=-1)
        if not xl:
            return tokens, None
        if (pooled := found[-1][1]) is None:
            raise BackendError(
                "The text_encoder_2 gives no text_embeds, which SDXL needs.", "unsupported_model"
            )
        return tokens, pooled


def layer_of(family: str, stop_at: int | None) -> int:
    """
    Which of a tower's hidden states to read, counted from the end.

    SD 2.x and XL were trained with the layer before the last; of SD 2.x's tower, the last one is not even there.
    """
    if family == "sd2":
        return min((stop_at or -2) + 1, -1)
    return stop_at or (-2 if family == "sdxl" else -1)


def _run(tower: TextTower, rows: Array, layer: int, *, norm: bool) -> tuple[Array, Array | None]:
    """One tower's hidden states (pieces · 77, width), and its pooled projection of the first piece."""
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
    pooled = [name for name in ("text_embeds",) if name in graph.outputs]
    hidden, *others = graph.run([*wanted, *pooled], {"input_ids": rows})
    if norm and others:
        hidden = _normed(hidden, *others[:2], eps=float(tower.config.get("layer_norm_eps", 1e-5)))
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
        fed["text_embeds"] = np.stack([row.pooled for row in rows if row.pooled is not None])
        fed["time_ids"] = np.stack([row.sizes for row in rows if row.sizes is not None])
    return fed
