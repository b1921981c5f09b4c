"""A CLIP tokenizer of 1024 entries for the captions' words: lower-casing byte-level BPE with `</w>`.

The 512 single-byte entries (with and without `</w>`) make any prompt tokenisable; start and end are the last two.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from . import common, words
from .kinds import KINDS

START, END = "<|startoftext|>", "<|endoftext|>"
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def captions(number: int) -> Iterator[str]:
    """As training words them; which combinations are held out makes no difference to the words."""
    for seed in range(number):
        rng = Random(f"tokenizer {seed}")
        yield words.dressed(rng, rng.choice(list(KINDS.values()))(rng).caption(rng))
    for seed in range(50):
        yield words.null_caption(Random(seed))


def merges(texts: Iterator[str]) -> list[tuple[str, str]]:
    """The byte pairs that the captions use most."""
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    cleaned = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence(cleaned)
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=common.VOCABULARY,
        min_frequency=2,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return [(first, second) for first, second in json.loads(tokenizer.to_str())["model"]["merges"]]


def write(folder: Path, pairs: list[tuple[str, str]]) -> None:
    """`vocab.json` and `merges.txt`, and what `CLIPTokenizer` adds to them."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*letters, *(letter + "</w>" for letter in letters)]
    pairs = pairs[: common.VOCABULARY - 2 - len(entries)]
    entries = list(dict.fromkeys([*entries, *(first + second for first, second in pairs)]))
    entries += [f"<|unused{i}|>" for i in range(common.VOCABULARY - 2 - len(entries))]
    vocabulary = {entry: i for i, entry in enumerate([*entries, START, END])}
    table = "#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in pairs)
    names = {"unk_token": END, "bos_token": START, "eos_token": END, "pad_token": END}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(table, encoding="utf-8")
    files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
    CLIPTokenizer(**files, **names, model_max_length=common.TOKENS).save_pretrained(folder)


def main() -> None:
    """`--out FOLDER`: write the folder's `tokenizer`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--captions", type=int, default=20_000)
    args = parser.parse_args()
    write(args.out / "tokenizer", merges(captions(args.captions)))


if __name__ == "__main__":
    main()
