"""Prompts to what the UNet attends to, by transformers' text encoders."""

from __future__ import annotations

from typing import Any

import attrs
import torch

from swarmkernel_backends_torch.loading import TextTower
from swarmkernel_diffusion import MAX_PIECES, Conditioning, PromptEncoder


@attrs.define(eq=False)
class TextEncoder(PromptEncoder):
    """
    Encodes prompts with a model's text towers; to be used from one thread.

    With *offload* a tower is on *device* only while it works.
    """

    device: torch.device
    offload: bool

    def rows(self, tower: TextTower, text: str) -> list[list[int]]:
        """The token ids of *text*, a row for each piece."""
        tokenizer = tower.tokenizer
        room = tokenizer.model_max_length - 2
        options = {"add_special_tokens": False, "truncation": True, "max_length": room * MAX_PIECES}
        ids = tokenizer(text, **options).input_ids
        return [_framed(tokenizer, ids[at : at + room]) for at in range(0, max(len(ids), 1), room)]

    def run(
        self, tower: TextTower, rows: list[list[int]], layer: int, *, norm: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One tower's hidden states (pieces · 77, width), and its pooled projection of the first piece."""
        encoder = tower.encoder.to(self.device)  # it may wait in system memory
        output = encoder(torch.tensor(rows, device=self.device), output_hidden_states=True)
        hidden = output.hidden_states[max(layer, -len(output.hidden_states))]
        if norm:
            hidden = encoder.final_layer_norm(hidden)
        pooled = getattr(output, "text_embeds", None)
        if self.offload:
            tower.encoder.to("cpu")
        return hidden.flatten(0, 1), None if pooled is None else pooled[0]


def _framed(tokenizer: Any, ids: list[int]) -> list[int]:
    """A row of these ids, with a start and an end token, padded."""
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
