"""Train the text encoder alone for some minutes, then together with the UNet (v-prediction)."""

import argparse
import copy
import math
import time
from pathlib import Path

import attrs
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from torch.nn import functional
from transformers import CLIPTextModel

from . import common
from .data import LABELS
from .dataset import Batch, Pictures
from .optimizer import optimizers

DROP = 0.1
NOISE_BIAS = (0.6, 0.9)
"""Time steps are drawn as 1000 u^bias: noisy ones first, where the prompt decides, more of the clean ones later."""
AUXILIARY = 0.05
LOG_EVERY = 50


class Readout(nn.Module):  # type: ignore[misc]
    """What the averaged text features must tell: each label, and the picture's latent at 8x8.

    The attributes become linearly readable before, and stay so while, the UNet learns to use them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(common.WIDTH, classes) for classes in LABELS.values())
        self.picture = nn.Linear(common.WIDTH, 4 * 64)

    def loss(self, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean cross-entropy over the known labels, plus the squared error of the small latent."""
        pooled = features.float().mean(1)
        target = functional.avg_pool2d(batch.latents, 2).flatten(1)
        total = functional.mse_loss(self.picture(pooled), target)
        for column, head in enumerate(self.heads):
            labels = batch.labels[:, column]
            if (labels >= 0).any():
                total = total + functional.cross_entropy(head(pooled), labels, ignore_index=-1)
        return total


@attrs.define
class Networks:
    """What is trained; the readout is dropped afterwards."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    readout: Readout

    def modules(self) -> tuple[nn.Module, ...]:
        """All of them."""
        return self.unet, self.text, self.readout

    def save(self, folder: Path) -> None:
        """Write the parts in diffusers' layout, and the readout beside them for a continuation."""
        self.unet.save_pretrained(folder / "unet")
        self.text.save_pretrained(folder / "text_encoder")
        torch.save(self.readout.state_dict(), folder / "readout.pt")


def new_networks(start: Path | None) -> Networks:
    """Fresh networks, or those of a folder that `Networks.save` wrote."""
    if start is None:
        networks = Networks(common.new_unet(), common.new_text_encoder(), Readout())
    else:
        unet = UNet2DConditionModel.from_pretrained(start / "unet")
        networks = Networks(unet, CLIPTextModel.from_pretrained(start / "text_encoder"), Readout())
        networks.readout.load_state_dict(torch.load(start / "readout.pt", weights_only=True))
    # Plain matrix products: on a CPU the fused attention makes a step half as long again.
    networks.unet.set_attn_processor(AttnProcessor())
    networks.text.set_attn_implementation("eager")
    for module in networks.modules():
        module.train()
    return networks


def learning_rate(progress: float, warm: float, floor: float) -> float:
    """A factor on the base rate: a linear rise, then constant, then a linear fall over the last 40 %."""
    return max(floor, min(1.0, (progress + 1e-3) / warm, (1 - progress) / 0.4))


def diffusion_loss(
    networks: Networks, batch: Batch, alphas: torch.Tensor, bias: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The error of the predicted velocity (Salimans & Ho 2022) and the readout's loss, for one batch."""
    size = len(batch.latents)
    uniform = (torch.arange(size) + torch.rand(size)) / size
    times = (1000 * uniform**bias).long().clamp(max=999)
    noise = torch.randn_like(batch.latents)
    signal = alphas[times].sqrt().view(-1, 1, 1, 1)
    sigma = (1 - alphas[times]).sqrt().view(-1, 1, 1, 1)
    noisy, velocity = signal * batch.latents + sigma * noise, signal * noise - sigma * batch.latents
    with torch.autocast("cpu", torch.bfloat16):
        features = networks.text(batch.ids)[0]
        predicted = networks.unet(noisy, times, features, return_dict=False)[0].float()
    return functional.mse_loss(predicted, velocity), networks.readout.loss(features, batch)


class Run:
    """One timed training run."""

    def __init__(self, args: argparse.Namespace, workers: common.Workers) -> None:
        self.args, self.workers = args, workers
        scaling = common.load_vae(args.base).config.scaling_factor
        torch.manual_seed(args.seed)
        self.networks = new_networks(args.resume)
        torch.manual_seed(args.seed + 1 + workers.rank)
        self.pictures = Pictures(args.data, scaling)
        self.averaged = copy.deepcopy(self.networks)
        self.alphas = common.new_scheduler().alphas_cumprod.float()
        self.mix = {kind: float(share) for kind, share in (part.split("=") for part in args.mix.split(","))}
        self.steps = 0

    def train(self, minutes: float, text_only: bool) -> None:
        """Step until the time is over; log, keep the moving average, and save now and then."""
        networks = self.networks
        trained = (networks.text, networks.readout) if text_only else networks.modules()
        parameters = [p for module in trained for p in module.parameters()]
        chosen = optimizers(trained, self.args.muon_lr, self.args.adam_lr)
        bases = [optimizer.param_groups[0]["lr"] for optimizer in chosen]
        began = saved = time.monotonic()
        history: list[tuple[float, float]] = []
        while (progress := self.workers.agreed((time.monotonic() - began) / (60 * minutes))) < 1:
            for optimizer, base in zip(chosen, bases, strict=True):
                optimizer.param_groups[0]["lr"] = base * learning_rate(progress, 0.02, self.args.floor)
            loss, auxiliary = self._losses(text_only, progress)
            for optimizer in chosen:
                optimizer.zero_grad()
            (auxiliary if text_only else loss + AUXILIARY * auxiliary).backward()
            self.workers.average_gradients(parameters)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer in chosen:
                optimizer.step()
            self.steps += 1
            self._average()
            history.append((loss.item(), auxiliary.item()))
            if self.workers.is_first and self.steps % LOG_EVERY == 0:
                self._log(history[-LOG_EVERY:], time.monotonic() - began)
            if self.workers.is_first and time.monotonic() - saved > self.args.save_seconds:
                self.averaged.save(self.args.out)
                saved = time.monotonic()
        if self.workers.is_first:
            self.averaged.save(self.args.out)

    def _losses(self, text_only: bool, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        batch = self.pictures.batch(self.args.batch, self.mix, DROP)
        if not text_only:
            first, last = NOISE_BIAS
            return diffusion_loss(self.networks, batch, self.alphas, first + (last - first) * progress)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.networks.text(batch.ids)[0]
        return torch.zeros(()), self.networks.readout.loss(features, batch)

    def _average(self) -> None:
        keep = min(self.args.ema, (1 + self.steps) / (10 + self.steps))
        for averaged, current in zip(self.averaged.modules(), self.networks.modules(), strict=True):
            common.move_towards(averaged, current, 1 - keep)

    def _log(self, history: list[tuple[float, float]], seconds: float) -> None:
        loss, auxiliary = (math.fsum(column) / len(history) for column in zip(*history, strict=True))
        seen = self.steps * self.args.batch * self.workers.count
        print(
            f"step {self.steps} seen {seen} {seconds:.0f}s loss {loss:.4f} text {auxiliary:.4f}", flush=True
        )


def main() -> None:
    """Run the text stage, then the joint stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--base", type=Path, default=common.SHIPPED, help="the model folder with the autoencoder"
    )
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--text-minutes", type=float, default=2)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--batch", type=int, default=32, help="pictures of one process")
    parser.add_argument("--mix", default="single=30,several=12,pair=22,scene=18,icon=18")
    parser.add_argument("--muon-lr", type=float, default=0.014)
    parser.add_argument("--adam-lr", type=float, default=1e-3)
    parser.add_argument("--floor", type=float, default=0.02)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-seconds", type=float, default=180)
    args = parser.parse_args()
    run = Run(args, common.Workers())
    if args.text_minutes:
        run.train(args.text_minutes, text_only=True)
        run.steps = 0
    run.train(args.minutes, text_only=False)


if __name__ == "__main__":
    main()
