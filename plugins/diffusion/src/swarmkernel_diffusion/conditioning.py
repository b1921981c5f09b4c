"""Prompts to what a UNet of Stable Diffusion attends to, whatever computes it."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs
import numpy as np

from swarmkernel_diffusion.arrays import Array, Arrays

#: How many pieces of prompts are kept encoded: users repeat theirs, and the negative one is nearly always the same.
#: Those of SDXL take 0.6 MB each in single precision.
CACHED_PIECES = 128
#: A prompt is cut into at most this many pieces of 75 tokens.
MAX_PIECES = 32

Encoded: TypeAlias = tuple[Array, Array | None]
"""Hidden states (length, width), and what is pooled of them (width,) where a tower gives that."""


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
class PromptEncoder(ABC):
    """
    Encodes prompts with a model's text towers; to be used from one thread.

    *family* is sd1, sd2 or sdxl. A prompt longer than a tower's 77 positions is encoded in pieces of 75 tokens that
    are then joined. A subclass says how a tower cuts a prompt up (`rows`), and what it makes of it (`run`).
    """

    family: str
    towers: Sequence[Any]
    arrays: Arrays
    _cache: OrderedDict[tuple[str, int, int | None], Encoded] = attrs.field(factory=OrderedDict, init=False)

    @abstractmethod
    def rows(self, tower: Any, text: str) -> list[list[int]]:
        """The token ids of *text*, a row for each piece: one of padding for no text, `MAX_PIECES` at most."""

    @abstractmethod
    def run(self, tower: Any, rows: list[list[int]], layer: int, *, norm: bool) -> Encoded:
        """
        The hidden states of all rows, one after the other, and what the tower pools of the first one.

        *layer* is the one to read, counted from the end; *norm* asks for the tower's last layer norm after it.
        """

    def pieces(self, text: str) -> int:
        """How many pieces *text* needs."""
        return max(len(self.rows(tower, text)) for tower in self.towers)

    def encode(self, text: str, pieces: int, stop_at: int | None, size: tuple[int, int]) -> Conditioning:
        """
        The conditioning of *text*, padded to *pieces* pieces.

        *stop_at* is the layer to read, counted from the end (-1 the last); None the one the family was trained with.
        *size* is (height, width) in pixels, which SDXL is told.
        """
        key = (text, pieces, stop_at)
        if key not in self._cache:
            self._cache[key] = self._encode(text, pieces, stop_at)
            while sum(length for _, length, _ in self._cache) > CACHED_PIECES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        tokens, pooled = self._cache[key]
        if pooled is None:
            return Conditioning(tokens)
        # Original size, crop offset, target size: what SDXL was trained to be told (arXiv:2307.01952, section 2.2).
        sizes = np.array([*size, 0, 0, *size], dtype=np.float32)
        return Conditioning(tokens, pooled, self.arrays.asarray(sizes))

    def forget(self) -> None:
        """Drop what is cached."""
        self._cache.clear()

    def _encode(self, text: str, pieces: int, stop_at: int | None) -> Encoded:
        xl = self.family == "sdxl"
        layer = layer_of(self.family, stop_at)
        found = [
            self.run(tower, self._padded(tower, text, pieces), layer, norm=not xl) for tower in self.towers
        ]
        tokens = self.arrays.concat([hidden.T for hidden, _ in found]).T  # side by side
        return tokens, found[-1][1] if xl else None

    def _padded(self, tower: Any, text: str, pieces: int) -> list[list[int]]:
        rows = self.rows(tower, text)
        return rows + self.rows(tower, "") * (pieces - len(rows))


def layer_of(family: str, stop_at: int | None) -> int:
    """
    Which of a tower's hidden states to read, counted from the end.

    SD 2.x and XL were trained with the layer before the last; of SD 2.x's tower, the last one is not even there.
    """
    if family == "sd2":
        return min((stop_at or -2) + 1, -1)
    return stop_at or (-2 if family == "sdxl" else -1)
