"""CLIP's tokenizer, which single-file checkpoints do not carry."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"


def _byte_letters() -> list[str]:
    """
    One printable letter per byte, in the order of CLIP's vocabulary.

    Printable Latin-1 bytes stand for themselves; the others are moved to 256 and up (GPT-2's byte-level BPE).
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    moved = len([b for b in range(256) if b not in printable])
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(moved)]


@cache
def clip_vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's 49,408 tokens with their ids, and the merges (as "a b") in order of rank."""
    packed = files("swarmkernel_backends_torch").joinpath("data/clip_merges.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode().split("\n")
    letters = _byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += [merge.replace(" ", "") for merge in merges]
    return {token: n for n, token in enumerate([*tokens, START, END])}, merges


def clip_tokenizer(pad_token: str = END) -> Any:
    """A ``CLIPTokenizer`` with CLIP's own vocabulary; OpenCLIP's text towers pad with ``!``."""
    from transformers import CLIPTokenizer  # noqa: PLC0415  # heavy

    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=[tuple(merge.split(" ")) for merge in merges],
        pad_token=pad_token,
        model_max_length=77,
    )
