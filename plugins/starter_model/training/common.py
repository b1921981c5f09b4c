"""What the stages share: the networks, two processes with averaged gradients, and the folders."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from torch import distributed, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

VOCABULARY = 1024
TOKENS = 77
WIDTH = 128
LATENT = 16
SHIPPED = Path(__file__).parents[1] / "src/swarmkernel_starter_model/models/starter"


def new_text_encoder() -> CLIPTextModel:
    """Two layers of width 128; the start and end tokens are the last two of the vocabulary."""
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        hidden_act="quick_gelu",
        projection_dim=WIDTH,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=VOCABULARY - 1,
    )
    return CLIPTextModel(config)


def new_unet() -> UNet2DConditionModel:
    """Three levels (16, 8 and 4 cells wide); text enters by cross-attention at the lower two, and everywhere
    as scale and shift of the residual blocks, through the pooled text added to the time embedding.
    """
    unet = UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 96, 112),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        time_embedding_dim=192,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    start_linear(unet)
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet


def start_linear(network: nn.Module) -> None:
    """Residual branches start at zero, resampling near the identity: worth thousands of steps at this budget."""
    for name, module in network.named_modules():
        if name.endswith(("conv2", "to_out.0", "ff.net.2", "proj_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif name.endswith(("upsamplers.0.conv", "conv_shortcut")):
            identity = nn.init.dirac_(torch.zeros_like(module.weight))
            module.weight.data.mul_(0.3).add_(identity)
            nn.init.zeros_(module.bias)


def move_towards(averaged: nn.Module, current: nn.Module, share: float) -> None:
    """Move the averaged weights a share of the way to the current ones."""
    with torch.no_grad():
        torch._foreach_lerp_(list(averaged.parameters()), list(current.parameters()), share)


def new_scheduler() -> EulerDiscreteScheduler:
    """Stable Diffusion's noise schedule, with v-prediction and trailing steps."""
    return EulerDiscreteScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def load_vae(folder: Path = SHIPPED) -> AutoencoderKL:
    """The autoencoder of a model folder, in float32."""
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", dtype=torch.float32)
    return vae.eval()


def load_tokenizer(folder: Path = SHIPPED) -> CLIPTokenizer:
    """The tokenizer of a model folder."""
    return CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")


class Workers:
    """Data parallelism over processes of one thread each, as `torchrun` starts them."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1:
            distributed.init_process_group("gloo")

    @property
    def is_first(self) -> bool:
        """Whether this process logs and saves."""
        return self.rank == 0

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes.

        A part that one process's batch did not use counts as zero there, so that all exchange the same sizes.
        """
        if self.count == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([g.reshape(-1) for g in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def agreed(self, value: float) -> float:
        """The first process's value, on every process."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(shared, 0)
        return float(shared.item())
