"""Train the autoencoder: f=8, four latent channels, one layer a block.

Crops of 32, then 64 pixels, then whole images, so that attention and norms see the real size in the end.
"""

import argparse
import copy
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from . import common
from .encode import to_tensor
from .kinds import KINDS
from .shapes import SHAPES, SIZE, Canvas, Rgb

CROPS = ((0.35, 32, 48), (0.7, 64, 16), (1.0, SIZE, 4))
"""Until which share of the run, the crop's side, and the batch."""
MEASURED = 500


def new_vae() -> AutoencoderKL:
    """A twentieth of Stable Diffusion's widths."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        sample_size=SIZE,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        norm_num_groups=1,
        act_fn="silu",
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    common.start_linear(vae)
    return vae


def _any_rgb(rng: Random) -> Rgb:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)


def muddle(rng: Random) -> torch.Tensor:
    """Shapes and lines of any colour anywhere: variety that the captions have no words for."""
    canvas = Canvas(_any_rgb(rng))
    if rng.random() < 0.5:
        canvas.gradient(_any_rgb(rng), _any_rgb(rng))
    for _ in range(rng.randint(1, 9)):
        draw = rng.choice(list(SHAPES.values()))
        draw(canvas, rng.random(), rng.random(), rng.uniform(0.03, 0.35), _any_rgb(rng))
        ends = (rng.random(), rng.random()), (rng.random(), rng.random())
        canvas.line(*ends, rng.uniform(0.005, 0.05), _any_rgb(rng))
    return to_tensor(canvas.finished())


def pictures(rng: Random) -> Iterator[torch.Tensor]:
    """Endless training pictures, a fifth of them muddles."""
    while True:
        drawn = muddle(rng) if rng.random() < 0.2 else to_tensor(rng.choice(list(KINDS.values()))(rng).image)
        yield drawn.flip(2) if rng.random() < 0.5 else drawn


def crops(source: Iterator[torch.Tensor], rng: Random, progress: float) -> torch.Tensor:
    """One batch `(n, 3, side, side)` for this share of the run."""
    side, count = next((side, count) for until, side, count in CROPS if progress < until)
    found: list[torch.Tensor] = []
    while len(found) < count:
        picture = next(source)
        for _ in range(max(1, count // 12)):
            x, y = rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)
            found.append(picture[:, y : y + side, x : x + side])
    return torch.stack(found[:count])


def loss_of(vae: AutoencoderKL, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared error, a smoothed absolute error of values and of edges, and a little KL; and the squared error alone."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(images).latent_dist
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = vae.decode(latent).sample.float() - images
    edges = smooth(error.diff(dim=-1)) + smooth(error.diff(dim=-2))
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    squared = (error**2).mean()
    return 2 * squared + 0.2 * smooth(error) + 0.1 * edges + 1e-3 * divergence, squared


def smooth(error: torch.Tensor) -> torch.Tensor:
    """Charbonnier's mean absolute error, rounded below 0.02."""
    return (error**2 + 4e-4).sqrt().mean()


def train(minutes: float, seed: int) -> AutoencoderKL:
    """Train for some minutes; the moving average of the weights, with its scaling factor measured."""
    torch.manual_seed(seed)
    rng = Random(f"autoencoder {seed}")
    source, vae = pictures(rng), new_vae().train()
    averaged = copy.deepcopy(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=7e-4, betas=(0.9, 0.99), weight_decay=1e-4)
    began, step = time.monotonic(), 0
    while (progress := (time.monotonic() - began) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = 7e-4 * max(
            0.02, min(1.0, 50 * progress + 0.02, (1 - progress) / 0.5)
        )
        loss, squared = loss_of(vae, crops(source, rng, progress))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        share = 1 - min(0.998, (1 + step) / (10 + step))
        common.move_towards(averaged, vae, share)
        if step % 50 == 0:
            print(f"step {step} {60 * minutes * progress:.0f}s {decibels(squared):.1f} dB", flush=True)
    return scaled(averaged.eval(), source)


def decibels(squared: torch.Tensor) -> float:
    """The peak signal-to-noise ratio of a squared error, for values in -1..1."""
    return float(10 * torch.log10(4 / squared.detach()))


def scaled(vae: AutoencoderKL, source: Iterator[torch.Tensor]) -> AutoencoderKL:
    """The same, with `scaling_factor` set so that scaled latents have unit deviation."""
    latents, errors = [], []
    for _ in range(MEASURED // 10):
        images = torch.stack([next(source) for _ in range(10)])
        with torch.no_grad():
            latents.append(vae.encode(images).latent_dist.mean)
            decoded = vae.decode(latents[-1]).sample.clamp(-1, 1)
        errors.append(functional.mse_loss(decoded, images))
    vae.register_to_config(scaling_factor=round(1 / float(torch.cat(latents).std()), 5))
    print(f"{decibels(torch.stack(errors).mean()):.1f} dB, scaling factor {vae.config.scaling_factor}")
    return vae


def main() -> None:
    """`--out FOLDER`: write the folder's `vae`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    train(args.minutes, args.seed).save_pretrained(args.out / "vae")


if __name__ == "__main__":
    main()
