"""The whole recipe with one command: `python -m training --out FOLDER`.

Draws and encodes the pictures, trains, assembles the model folder, adds its ONNX graphs, prints its scores and draws a contact sheet.
Each stage is also a module of its own (`python -m training.evaluate --help`).
"""

import argparse
import subprocess
import sys
from pathlib import Path

from . import common, encode


def run(module: str, *options: object, processes: int = 1) -> None:
    """Run one stage, in several processes when asked.

    :raises subprocess.CalledProcessError: the stage failed; what it printed says why.
    """
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [
        sys.executable,
        *(several if processes > 1 else []),
        "-m",
        f"training.{module}",
        *map(str, options),
    ]
    print("+", *command[1:], flush=True)
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/starter-model"), help="latents and checkpoints"
    )
    parser.add_argument("--minutes", type=float, default=90, help="of training the text encoder and the UNet")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--chunks", default=encode.CHUNKS, help="thousands of pictures by kind")
    parser.add_argument("--from-scratch", action="store_true", help="train tokenizer and autoencoder too")
    parser.add_argument("--autoencoder-minutes", type=float, default=20)
    args = parser.parse_args()
    work, base = args.work.resolve(), common.SHIPPED
    work.mkdir(parents=True, exist_ok=True)
    if args.from_scratch:
        base = work / "base"
        run("tokenizer", "--out", base)
        run("autoencoder", "--out", base, "--minutes", args.autoencoder_minutes)
    run("encode", "--base", base, "--folder", work / "data", "--chunks", args.chunks)
    timing = ("--text-minutes", args.minutes / 45, "--minutes", args.minutes)
    folders = ("--base", base, "--data", work / "data", "--out", work / "trained")
    run("train", *folders, *timing, processes=args.processes)
    out = args.out.resolve()
    run("assemble", "--base", base, "--trained", work / "trained", "--out", out)
    command = [str(Path(sys.executable).with_name("swarmkernel")), "export-onnx", str(out), "--in-place"]
    print("+", *command, flush=True)
    subprocess.run(command, check=True)
    run("evaluate", "--model", out)
    run("contact", "--model", out, "--out", work / "contact.png")


if __name__ == "__main__":
    main()
