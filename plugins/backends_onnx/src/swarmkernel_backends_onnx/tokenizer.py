"""CLIP's tokenizer, from the files of a model folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.config_files import read_json

START, END = "<|startoftext|>", "<|endoftext|>"
#: How many tokens CLIP's towers read at a time.
LENGTH = 77
#: What CLIP takes for a word: letters, one digit, or other signs (arXiv:2103.00020, OpenAI's simple_tokenizer.py).
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@attrs.frozen(eq=False)
class ClipTokenizer:
    """Turns a prompt into rows of token ids, each *length* long with a start and an end token."""

    tokenizer: Any
    start: int
    end: int
    padding: int
    length: int = LENGTH

    @classmethod
    def load(cls, folder: Path, length: int = LENGTH) -> ClipTokenizer:
        """The tokenizer of *folder*, whose rows are *length* long if the folder does not say less."""
        try:
            vocabulary, merges = _tables(folder)
            said = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
            return cls._build(vocabulary, merges, said, length)
        except BackendError:
            raise
        except Exception as exc:
            raise BackendError(
                f"The {folder.name} of this model could not be read: {exc}", "model_corrupt"
            ) from exc

    @classmethod
    def _build(
        cls, vocabulary: dict[str, int], merges: list[tuple[str, str]], said: Mapping[str, Any], length: int
    ) -> ClipTokenizer:
        described = {found["content"]: found for found in said.get("added_tokens_decoder", {}).values()}
        special = {
            name: _special(said.get(f"{name}_token") or default, described)
            for name, default in (("bos", START), ("eos", END), ("unk", END), ("pad", END))
        }
        made = Tokenizer(
            BPE(
                vocab=vocabulary,
                merges=merges,
                continuing_subword_prefix="",
                end_of_word_suffix="</w>",
                fuse_unk=False,
                unk_token=special["unk"].content,
            )
        )
        made.normalizer = Normalizers([NFC(), Replace(Regex(r"\s+"), " "), Lowercase()])
        split = Split(Regex(_WORDS), behavior="removed", invert=True)
        made.pre_tokenizer = PreTokenizers([split, ByteLevel(add_prefix_space=False)])
        made.add_special_tokens(list(special.values()))
        start, end, padding = (vocabulary[special[name].content] for name in ("bos", "eos", "pad"))
        said_length = said.get("model_max_length")
        limit = int(said_length) if isinstance(said_length, int | float) and said_length > 2 else length
        return cls(made, start, end, padding, min(limit, length))

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return int(max(self.tokenizer.get_vocab().values())) + 1

    def rows(self, text: str, most: int) -> list[list[int]]:
        """The ids of *text* in rows, at least one and *most* at most; what is beyond them is left out."""
        room = self.length - 2
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids[: room * most]
        return [self.row(ids[at : at + room]) for at in range(0, max(len(ids), 1), room)]

    def row(self, ids: Iterable[int] = ()) -> list[int]:
        """One row of these ids, padded."""
        found = [self.start, *ids, self.end]
        return found + [self.padding] * (self.length - len(found))


def _tables(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Every token's id, and the merges in order of rank."""
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if vocabulary.is_file() and merges.is_file():
        lines = merges.read_text(encoding="utf-8").split("\n")
        return read_json(vocabulary), [
            _pair(line) for line in lines if line and not line.startswith("#version")
        ]
    if (whole := folder / "tokenizer.json").is_file():
        model = read_json(whole)["model"]
        return model["vocab"], [_pair(merge) for merge in model["merges"]]
    raise BackendError(
        f"This model's {folder.name} has neither vocab.json with merges.txt nor tokenizer.json.",
        "model_corrupt",
    )


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _special(said: str | Mapping[str, Any], described: Mapping[str, Mapping[str, Any]]) -> Any:
    """A special token as its folder describes it, by its name or in a table."""
    if isinstance(said, str):
        said = described.get(said, {"content": said, "normalized": False})
    kept = ("lstrip", "rstrip", "single_word", "normalized")
    return AddedToken(
        said["content"], special=True, **{name: bool(said[name]) for name in kept if name in said}
    )
