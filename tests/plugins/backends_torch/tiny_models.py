"""Stable Diffusion models of all three families with random weights, small enough to be made in a test."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from swarmkernel_backends_torch.tokenizer import clip_tokenizer

WIDTH = 64


def unet(family: str, **changes: Any) -> UNet2DConditionModel:
    config: dict[str, Any] = {
        "sample_size": 16,
        "layers_per_block": 1,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 8,
    }
    if family != "sd1":
        config |= {
            "block_out_channels": (64, 128),
            "attention_head_dim": (1, 2),
            "use_linear_projection": True,
        }
    if family == "sdxl":
        config |= {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "cross_attention_dim": 2 * WIDTH,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 6 * 256 + WIDTH,
        }
    return UNet2DConditionModel(**(config | changes))


def vae(family: str, **changes: Any) -> AutoencoderKL:
    config: dict[str, Any] = {
        "block_out_channels": (32, 64),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "scaling_factor": 0.13025 if family == "sdxl" else 0.18215,
        "force_upcast": family == "sdxl",
    }
    return AutoencoderKL(**(config | changes))


def tower(*, layers: int, is_open_clip: bool = False, projection: bool = False) -> Any:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=1,
        projection_dim=WIDTH,
        hidden_act="gelu" if is_open_clip else "quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
        initializer_factor=4.0,  # so that different prompts make different pictures
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def pipeline(family: str, *, prediction: str = "epsilon", seed: int = 0, **unet_changes: Any) -> Any:
    """A diffusers pipeline: family is sd1, sd2 or sdxl."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "unet": unet(family, **unet_changes),
        "vae": vae(family),
        "scheduler": EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
            prediction_type=prediction,
        ),
        "tokenizer": clip_tokenizer("!") if family == "sd2" else clip_tokenizer(),
        "text_encoder": tower(layers=3, is_open_clip=family == "sd2"),
    }
    if family == "sdxl":
        parts |= {
            "text_encoder_2": tower(layers=3, is_open_clip=True, projection=True),
            "tokenizer_2": clip_tokenizer("!"),
        }
        made = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        extras = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        made = StableDiffusionPipeline(**parts, **extras)
    made.set_progress_bar_config(disable=True)
    return made


def save(made: Any, folder: Path) -> Path:
    """Write a pipeline as a diffusers folder."""
    made.save_pretrained(folder)
    return folder
