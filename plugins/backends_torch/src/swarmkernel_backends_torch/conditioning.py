"""Prompts to what the UNet attends to."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import attrs
import torch

from swarmkernel_backends_torch.loading import Parts, TextTower

#: Prompts whose conditioning is kept: users repeat theirs, and the negative one is nearly always the same.
CACHED = 64
#: A prompt is cut into at most this many pieces of 75 tokens.
MAX_PIECES = 32


@attrs.frozen(eq=False)
class Conditioning:
    """
    What one row of a batch is conditioned on.

    *tokens*: (length, width); *pooled*: (width,) and *sizes*: (6,) for SDXL, else None.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None
    sizes: torch.Tensor | None = None


@attrs.define(eq=False)
class TextEncoder:
    """
    Encodes prompts with a model's text towers; to be used from one thread.

    A prompt longer than a tower's 77 positions is encoded in pieces of 75 tokens that are then joined.
    """

    parts: Parts
    device: torch.device
    offload: bool = False
    _cache: OrderedDict[tuple[str, int, int | None], tuple[torch.Tensor, torch.Tensor | None]] = attrs.field(
        factory=OrderedDict, init=False
    )

    def pieces(self, text: str) -> int:
        """How many pieces *text* needs."""
        return max(len(_pieces(tower.tokenizer, text)) for tower in self.parts.towers)

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
        sizes = torch.tensor([*size, 0, 0, *size], dtype=torch.float32, device=self.device)
        return Conditioning(tokens, pooled, sizes)

    def forget(self) -> None:
        """Drop what is cached."""
        self._cache.clear()

    def _encode(
        self, text: str, pieces: int, stop_at: int | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        xl = self.parts.family == "sdxl"
        layer = layer_of(self.parts.family, stop_at)
        found = [self._run(tower, text, pieces, layer, norm=not xl) for tower in self.parts.towers]
        tokens = torch.cat([hidden for hidden, _ in found], dim=-1)
        return tokens, found[-1][1] if xl else None

    def _run(
        self, tower: TextTower, text: str, pieces: int, layer: int, *, norm: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One tower's hidden states (pieces · 77, width), and its pooled projection of the first piece."""
        rows = _pieces(tower.tokenizer, text)
        rows += [_framed(tower.tokenizer, [])] * (pieces - len(rows))
        encoder = tower.encoder.to(self.device)  # it may wait in system memory
        output = encoder(torch.tensor(rows, device=self.device), output_hidden_states=True)
        hidden = output.hidden_states[max(layer, -len(output.hidden_states))]
        if norm:
            hidden = encoder.final_layer_norm(hidden)
        pooled = getattr(output, "text_embeds", None)
        if self.offload:
            tower.encoder.to("cpu")
        return hidden.flatten(0, 1), None if pooled is None else pooled[0]


def layer_of(family: str, stop_at: int | None) -> int:
    """
    Which of a tower's hidden states to read, counted from the end.

    SD 2.x and XL were trained with the layer before the last; of SD 2.x's tower, the last one is not even there.
    """
    if family == "sd2":
        return min((stop_at or -2) + 1, -1)
    return stop_at or (-2 if family == "sdxl" else -1)


def _pieces(tokenizer: Any, text: str) -> list[list[int]]:
    """Token ids of *text* in rows of the tokenizer's length, each with its start and end token; at least one row."""
    room = tokenizer.model_max_length - 2
    ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=room * MAX_PIECES).input_ids
    return [_framed(tokenizer, ids[at : at + room]) for at in range(0, max(len(ids), 1), room)]


def _framed(tokenizer: Any, ids: list[int]) -> list[int]:
    padding = tokenizer.model_max_length - 2 - len(ids)
    return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * padding]


def stack(
    rows: list[Conditioning], dtype: torch.dtype
) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
    """A batch's ``encoder_hidden_states`` (rows, length, width), and SDXL's ``added_cond_kwargs``."""
    tokens = torch.stack([row.tokens for row in rows]).to(dtype)
    if rows[0].pooled is None:
        return tokens, None
    pooled = torch.stack([row.pooled for row in rows if row.pooled is not None]).to(dtype)
    sizes = torch.stack([row.sizes for row in rows if row.sizes is not None])
    return tokens, {"text_embeds": pooled, "time_ids": sizes}
