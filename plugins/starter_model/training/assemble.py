"""Put trained parts into a Stable Diffusion folder: fp16 safetensors, no pickle."""

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from . import common


def pipeline(trained: Path, base: Path = common.SHIPPED) -> StableDiffusionPipeline:
    """The trained UNet and text encoder with the autoencoder and tokenizer of `base`, in float32."""
    return StableDiffusionPipeline(
        vae=common.load_vae(base),
        text_encoder=CLIPTextModel.from_pretrained(trained / "text_encoder"),
        tokenizer=common.load_tokenizer(base),
        unet=UNet2DConditionModel.from_pretrained(trained / "unet"),
        scheduler=common.new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def assemble(trained: Path, out: Path, base: Path = common.SHIPPED) -> int:
    """Write the folder and return its size in bytes."""
    pipe = pipeline(trained, base).to(torch.float16)
    unfinished = out.with_name(out.name + ".part")
    pipe.save_pretrained(unfinished, safe_serialization=True)
    for name in (
        "vocab.json",
        "merges.txt",
    ):  # transformers 5 writes tokenizer.json only; other loaders want these
        shutil.copy(base / "tokenizer" / name, unfinished / "tokenizer" / name)
    for config in unfinished.glob("*/config.json"):
        lines = config.read_text().splitlines(keepends=True)
        config.write_text("".join(line for line in lines if '"_name_or_path"' not in line))
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)
    for file in out.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    return sum(file.stat().st_size for file in out.rglob("*") if file.is_file())


def main() -> None:
    """`--trained RUN --out FOLDER`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=common.SHIPPED)
    parser.add_argument("--out", type=Path, default=common.SHIPPED)
    args = parser.parse_args()
    print(f"{assemble(args.trained, args.out, args.base) / 1e6:.2f} MB in {args.out}")


if __name__ == "__main__":
    main()
