"""Real model files, small: made with the safetensors and diffusers libraries."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

CLIP_L = "cond_stage_model.transformer.text_model.embeddings."
UNET = "model.diffusion_model."


SD1 = {
    CLIP_L + "position_ids": (1, 7),
    CLIP_L + "token_embedding.weight": (3, 8),
    UNET + "input_blocks.0.0.weight": (4, 4, 3, 3),
}
SD2 = {"cond_stage_model.model.ln_final.bias": (8,), UNET + "input_blocks.0.0.weight": (4, 4, 3, 3)}
SDXL = {
    "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight": (7, 8),
    "conditioner.embedders.1.model.ln_final.bias": (8,),
    UNET + "input_blocks.0.0.weight": (4, 4, 3, 3),
}
REFINER = {
    "conditioner.embedders.0.model.ln_final.bias": (8,),
    UNET + "input_blocks.0.0.weight": (4, 4, 3, 3),
}


def write(path: Path, shapes: dict[str, tuple[int, ...]] = SD1, **metadata: str) -> Path:
    """A safetensors file of zeros; keywords are its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, path, metadata or None)
    return path


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory):
    """Folder with one diffusers folder per Stable Diffusion family, saved by diffusers itself."""
    folder = tmp_path_factory.mktemp("pipelines")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers on its own older options
        _save_pipelines(folder)
    return folder


def _save_pipelines(folder: Path) -> None:
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLImg2ImgPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    small = CLIPTextConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        vocab_size=9,
        projection_dim=8,
    )
    vae = AutoencoderKL(block_out_channels=(4, 4), norm_num_groups=1, latent_channels=4,
                        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)  # fmt: skip

    def unet(cross=8, size=16, channels=4):
        return UNet2DConditionModel(
            sample_size=size, in_channels=channels, block_out_channels=(4, 4), norm_num_groups=1, layers_per_block=1,
            attention_head_dim=2, cross_attention_dim=cross,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip

    def sd(name, unet_, prediction="epsilon"):
        StableDiffusionPipeline(
            vae=vae, text_encoder=CLIPTextModel(small), tokenizer=None, unet=unet_, safety_checker=None,
            scheduler=DDIMScheduler(prediction_type=prediction), feature_extractor=None, requires_safety_checker=False,
        ).save_pretrained(folder / name)  # fmt: skip

    sd("sd1", unet())
    sd("sd1-inpainting", unet(channels=9))
    sd("sd2-512", unet(1024))
    sd("sd2-768", unet(1024, 24), "v_prediction")
    both = {"tokenizer": None, "tokenizer_2": None, "vae": vae, "scheduler": DDIMScheduler()}
    projected = CLIPTextModelWithProjection(small)
    StableDiffusionXLPipeline(
        **both, text_encoder=CLIPTextModel(small), text_encoder_2=projected, unet=unet()
    ).save_pretrained(folder / "xl")
    StableDiffusionXLImg2ImgPipeline(
        **both, text_encoder=None, text_encoder_2=projected, unet=unet()
    ).save_pretrained(folder / "refiner")


@pytest.fixture
def pipeline(pipelines, tmp_path):
    """Copy one of the diffusers folders to where a test may spoil it."""

    def copy(name: str, to: Path | None = None) -> Path:
        target = to or tmp_path / name
        shutil.copytree(pipelines / name, target)
        return target

    return copy
