"""Token ids: those of transformers, without transformers."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPTokenizer

from swarmkernel_backend_api import BackendError
from swarmkernel_backends_onnx.tokenizer import ClipTokenizer
from swarmkernel_backends_torch.tokenizer import clip_tokenizer, clip_vocabulary

STARTER = Path("plugins/starter_model/src/swarmkernel_starter_model/models/starter/tokenizer")
TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "A  PHOTO\tof\r\na\u00a0Cat\u2003!",
    "wow! a!! <|endoftext|> x <|ENDOFTEXT|> <|startoftext|>! <| endoftext |>",
    "Ein großes Haus, İstanbul, ΑΣΣ, ﬁne ½ ²",
    "3d 1234 0.5 x_y-z's don't we'll I'M they'd",
    "日本の猫 한국어 العربية हिन्दी ไทย",
    "e\u0301 \u00e9 \u1e9b\u0323 \uac00 \u1100\u1161",
    "🐈\u200d⬛ 👩\u200d👩\u200d👧 \ufe0f\u200b\ufeff",
    "(masterpiece:1.2), [a|b], <lora:x:1> {c} \\ / `~@#$%^&*",
    "\x00\x01\x7f\x85\x1c\u2028\u2029",
    "ǅ ß ẞ ſ K Å",
    "antidisestablishmentarianism" * 5,
    "a,b,c," * 100,
    "red " * 74,
    "red " * 75,
    "red " * 76,
]


def whole(folder: Path, pad: str = "<|endoftext|>") -> Path:
    """As transformers of today saves it: tokenizer.json."""
    clip_tokenizer(pad).save_pretrained(folder)
    return folder


def tables(folder: Path) -> Path:
    """The two tables of CLIP alone."""
    folder.mkdir()
    vocabulary, merges = clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return folder


def _added(content: str, **more: Any) -> dict[str, Any]:
    return {
        "content": content,
        "lstrip": False,
        "normalized": True,
        "rstrip": False,
        "single_word": False,
    } | more


def hub(folder: Path) -> Path:
    """As the model hub's repositories of 2022 have it: tables, and special tokens in a map."""
    tables(folder)
    start, end = _added("<|startoftext|>"), _added("<|endoftext|>")
    said = {"bos_token": start, "eos_token": end, "pad_token": "<|endoftext|>", "unk_token": end}
    (folder / "special_tokens_map.json").write_text(json.dumps(said))
    typed = {key: value | {"__type": "AddedToken"} for key, value in said.items() if isinstance(value, dict)}
    config = {"add_prefix_space": False, "do_lower_case": True, "model_max_length": 77, "errors": "replace"}
    config |= {"pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | typed))
    return folder


def padded_hub(folder: Path) -> Path:
    """As SDXL's second one: padding of its own, and all special tokens in a table."""
    hub(folder)
    decoder = {
        "0": _added("!", normalized=False, special=True),
        "49406": _added("<|startoftext|>", special=True),
        "49407": _added("<|endoftext|>", special=True),
    }
    config = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "!"}
    config |= {"unk_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"added_tokens_decoder": decoder}))
    return folder


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "whole": whole,
    "whole, padded by !": lambda folder: whole(folder, "!"),
    "tables": tables,
    "hub": hub,
    "hub, padded by !": padded_hub,
    "starter": lambda folder: Path(shutil.copytree(STARTER, folder)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ids_are_transformers(tmp_path: Path, layout: str) -> None:
    """Whatever files a tokenizer comes in, its ids and its padding are those of transformers on the same files."""
    folder = LAYOUTS[layout](tmp_path / "tokenizer")
    ours, theirs = ClipTokenizer.load(folder), CLIPTokenizer.from_pretrained(folder)
    for text in TEXTS:
        expected = theirs(text, padding="max_length", truncation=True, max_length=77).input_ids
        assert expected == ours.rows(text, 32)[0], text
        plain = theirs(text, add_special_tokens=False).input_ids
        joined = [id_ for row in ours.rows(text, 32) for id_ in row[1:76]]
        assert plain == joined[: len(plain)], text


def test_rows(tmp_path: Path) -> None:
    """A prompt is cut into rows of 75 ids with both ends, the last one padded; what is too long is left out."""
    ours = ClipTokenizer.load(whole(tmp_path / "tokenizer", "!"))
    red = 736
    assert [[49406, 49407, *[0] * 75]] == ours.rows("", 32)
    assert [[49406, *[red] * 75, 49407]] == ours.rows("red " * 75, 32)
    assert [[49406, *[red] * 75, 49407], [49406, red, 49407, *[0] * 74]] == ours.rows("red " * 76, 32)
    assert 2 == len(ours.rows("red " * 1000, 2))
    assert ours.row() == ours.rows("", 1)[0]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "vocab.json").unlink(), "neither vocab.json"),
        (lambda f: (f / "vocab.json").write_text("{"), "not JSON"),
        (lambda f: (f / "vocab.json").write_text('{"a": 0}'), "could not be read"),
        (lambda f: (f / "merges.txt").write_text("x"), "could not be read"),
        (lambda f: (f / "tokenizer_config.json").write_text("[1]"), "not a JSON object"),
        (shutil.rmtree, "neither vocab.json"),
    ],
)
def test_bad_tokenizers_are_refused(tmp_path: Path, spoil: Callable[[Path], object], reason: str) -> None:
    """A tokenizer that is not whole is refused with the reason."""
    folder = tables(tmp_path / "tokenizer")
    spoil(folder)
    with pytest.raises(BackendError, match=reason):
        ClipTokenizer.load(folder)


def test_no_torch_no_transformers() -> None:
    """The backend needs no torch, diffusers or transformers, and the server that only has the type no onnxruntime."""
    code = (
        "import sys, {module} as m; print([n for n in ('torch', 'diffusers', 'transformers', 'onnx', 'safetensors',"
        " 'onnxruntime', 'numpy', 'PIL') if n in sys.modules])"
    )

    def heavy(module: str) -> str:
        command = [sys.executable, "-c", code.format(module=f"swarmkernel_backends_onnx.{module}")]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert "[]" == heavy("plugin")
    assert "['onnxruntime', 'numpy', 'PIL']" == heavy("backend")
