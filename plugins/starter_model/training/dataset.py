"""Encoded pictures, drawn at random by kind; chunks that appear while training runs are picked up."""

import time
from pathlib import Path

import attrs
import numpy as np
import torch

RESCAN_SECONDS = 60


@attrs.frozen
class Batch:
    """`latents` (n, 4, 16, 16) scaled to unit deviation, `ids` (n, 77), `labels` (n, labels)."""

    latents: torch.Tensor
    ids: torch.Tensor
    labels: torch.Tensor


class Pictures:
    """The chunks of a folder, as `encode.py` writes them."""

    def __init__(self, folder: Path, scaling: float) -> None:
        self.folder = folder
        self._scaling = scaling
        self._nulls = torch.from_numpy(np.load(folder / "nulls.npy")).long()
        self._chunks: dict[str, list[dict[str, torch.Tensor]]] = {}
        self._known: set[Path] = set()
        self._scanned = float("-inf")

    def _scan(self) -> None:
        if time.monotonic() - self._scanned < RESCAN_SECONDS:
            return
        self._scanned = time.monotonic()
        found = {path for path in self.folder.glob("*-???.npz") if ".part" not in path.name}
        for path in sorted(found - self._known):
            with np.load(path) as arrays:
                tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
            self._chunks.setdefault(path.name.rsplit("-", 1)[0], []).append(tensors)
        self._known |= found

    def batch(self, size: int, mix: dict[str, float], drop: float) -> Batch:
        """`size` pictures, of kinds in the proportions of `mix`; a share `drop` gets a null caption."""
        self._scan()
        kinds = [kind for kind in mix if kind in self._chunks]
        shares = torch.tensor([mix[kind] for kind in kinds])
        rows = [self._row(kinds[int(k)]) for k in torch.multinomial(shares, size, replacement=True)]
        ids = torch.stack([row[1] for row in rows]).long()
        labels = torch.stack([row[2] for row in rows]).long()
        nulls = torch.rand(size) < drop
        ids[nulls] = self._nulls[torch.randint(len(self._nulls), (int(nulls.sum()),))]
        labels[nulls] = -1
        return Batch(torch.stack([row[0] for row in rows]).float() * self._scaling, ids, labels)

    def _row(self, kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        chunks = self._chunks[kind]
        chunk = chunks[int(torch.randint(len(chunks), ()))]
        picture = int(torch.randint(len(chunk["latents"]), ()))
        wording = int(torch.randint(chunk["ids"].shape[1], ()))
        return chunk["latents"][picture], chunk["ids"][picture, wording], chunk["labels"][picture]
