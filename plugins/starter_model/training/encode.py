"""Draw the training pictures and keep their latents, token ids and labels, in chunks that training may already read."""

import argparse
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL.Image import Image
from transformers import CLIPTokenizer

from . import common, words
from .data import LABELS
from .kinds import KINDS

CHUNK = 1000
CHUNKS = "single=20,several=8,pair=18,scene=10,icon=10"
CAPTIONS = 6
BATCH = 50
FIRST_TRAINING_SEED = 1_000_000


def to_tensor(image: Image) -> torch.Tensor:
    """A `(3, height, width)` tensor in -1..1."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float().div_(127.5).sub_(1)


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> np.ndarray:
    """Ids padded to 77, `(captions, 77)` int16."""
    found = tokenizer(captions, padding="max_length", truncation=True, max_length=common.TOKENS)
    return np.array(found.input_ids, np.int16)


def chunk(kind: str, number: int, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> dict[str, np.ndarray]:
    """One chunk of pictures: `latents` (n, 4, 16, 16) unscaled, `ids` (n, captions, 77), `labels` (n, labels)."""
    first = FIRST_TRAINING_SEED + number * CHUNK
    latents, ids, labels = [], [], []
    for start in range(first, first + CHUNK, BATCH):
        drawn, captions = [], []
        for seed in range(start, start + BATCH):
            rng = Random(f"{kind} {seed}")
            picture = KINDS[kind](rng)
            drawn.append(to_tensor(picture.image))
            captions += [words.dressed(rng, picture.caption(rng)) for _ in range(CAPTIONS)]
            labels.append(picture.labels)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latents.append(vae.encode(torch.stack(drawn)).latent_dist.mean.float().half().numpy())
        ids.append(token_ids(tokenizer, captions).reshape(BATCH, CAPTIONS, -1))
    table = np.array(labels, np.int8).reshape(CHUNK, len(LABELS))
    return {"latents": np.concatenate(latents), "ids": np.concatenate(ids), "labels": table}


def write_nulls(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """The captions of the unconditional branch."""
    captions = [words.null_caption(Random(seed)) for seed in range(2000)]
    np.save(folder / "nulls.npy", token_ids(tokenizer, captions))


def main() -> None:
    """`--chunks single=16,several=6,...`: interleave the kinds, so that an early reader sees all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=common.SHIPPED)
    parser.add_argument("--chunks", default=CHUNKS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    vae, tokenizer = common.load_vae(args.base), common.load_tokenizer(args.base)
    write_nulls(args.folder, tokenizer)
    wanted = {kind: int(count) for kind, count in (part.split("=") for part in args.chunks.split(","))}
    order = sorted((i / count, kind, i) for kind, count in wanted.items() for i in range(count))
    for _, kind, number in order:
        path = args.folder / f"{kind}-{number:03}.npz"
        if path.exists():
            continue
        began = time.monotonic()
        half_written = path.with_suffix(".part.npz")
        arrays: dict[str, Any] = chunk(kind, number, vae, tokenizer)
        np.savez(half_written, **arrays)
        half_written.rename(path)
        print(f"{path.name}: {CHUNK / (time.monotonic() - began):.0f} pictures/s", flush=True)


if __name__ == "__main__":
    main()
