"""Classes are found by tensors, and the tables are those of the wire."""

import pytest

from swarmkernel_models_api import CLASSES, COMPAT_CLASSES
from swarmkernel_models_api.classes import find_class
from swarmkernel_models_api.detect import Tensors, detect_class, special_format

from .conftest import REFINER, SD1, SD2, SDXL, UNET

INPAINT = {UNET + "input_blocks.0.0.weight": (4, 9, 3, 3)}
LORA_SD = "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_"
FLUX = "double_blocks.0.img_attn.norm.key_norm.scale"
CASES = [
    ("stable-diffusion-v1", "x", SD1),
    ("stable-diffusion-v1-inpainting", "x", SD1 | INPAINT),
    ("stable-diffusion-v1", "x", {"cond_stage_model.transformer.embeddings.position_ids": (1, 77)}),
    ("stable-diffusion-v2-768-v", "v2-1_768-ema", SD2),
    ("stable-diffusion-v2-512", "512-base-ema.safetensors", SD2),
    ("stable-diffusion-v2-inpainting", "x", SD2 | INPAINT),
    (
        "stable-diffusion-v2-depth",
        "x",
        SD2 | {"depth_model.model.pretrained.act_postprocess3.0.project.0.bias": (1,)},
    ),
    ("stable-diffusion-xl-v1-base", "x", SDXL),
    ("stable-diffusion-xl-v1-refiner", "x", REFINER),
    ("stable-diffusion-v2-turbo", "x", REFINER | {"denoiser.sigmas": (1,)}),
    ("stable-diffusion-v1/lora", "x", {LORA_SD + "ff_net_2.lora_up.weight": (1, 1)}),
    (
        "stable-diffusion-v2-768-v/lora",
        "x",
        {LORA_SD + "ff_net_2.lora_up.weight": (1, 1), LORA_SD + "attn2_to_k.lora_down.weight": (4, 1024)},
    ),
    (
        "stable-diffusion-xl-v1-base/lora",
        "x",
        {"lora_unet_down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_v.lora_up.weight": (1, 1)},
    ),
    ("Flux.1-dev/lora", "x", {"transformer.single_transformer_blocks.3.attn.to_k.lora_A.weight": (1, 1)}),
    ("stable-diffusion-v1/textual-inversion", "x", {"emb_params": (2, 768)}),
    ("stable-diffusion-v1/textual-inversion", "x", {"<cat>": (768,)}),
    ("stable-diffusion-v2-768-v/textual-inversion", "x", {"emb_params": (2, 1024)}),
    ("stable-diffusion-xl-v1-base/textual-inversion", "x", {"clip_g": (2, 1280), "clip_l": (2, 768)}),
    ("stable-diffusion-v1/controlnet", "x", {"control_model.input_blocks.1.0.emb_layers.1.bias": (4,)}),
    ("stable-diffusion-xl-v1-base/controlnet", "x", {"controlnet_down_blocks.0.bias": (4,)}),
    ("Flux.1-schnell", "x", {FLUX: (128,)}),
    ("Flux.1-dev", "x", {"model.diffusion_model." + FLUX: (128,), "guidance_in.in_layer.bias": (8,)}),
    ("stable-diffusion-v3-medium", "x", {"joint_blocks.0.context_block.attn.proj.bias": (1536,)}),
    ("stable-diffusion-v3.5-large", "x", {"joint_blocks.0.context_block.attn.proj.bias": (2432,)}),
    ("wan-2_1-text2video-14b", "x", {"blocks.0.cross_attn.k.bias": (5120,)}),
    (None, "x", {"something.else": (1,)}),
    (None, "x", {}),
]


@pytest.mark.parametrize(("expected", "name", "shapes"), CASES)
def test_detect(expected, name, shapes):
    """A file of a known family is of its class, and any other of none."""
    assert expected == detect_class(Tensors({key: list(shape) for key, shape in shapes.items()}, name))
    assert expected is None or expected in CLASSES


def test_vae_only_in_its_folder():
    """An autoencoder is one where autoencoders lie, and its name tells the two four-channel families apart."""
    shapes = {"decoder.conv_in.weight": [8, 4, 3, 3]}
    assert "stable-diffusion-xl-v1-base/vae" == detect_class(Tensors(shapes, "sdxl_vae.safetensors", "VAE"))
    assert "stable-diffusion-v1/vae" == detect_class(Tensors(shapes, "mse.safetensors", "VAE"))
    assert detect_class(Tensors(shapes, "mse.safetensors", "Stable-Diffusion")) is None


@pytest.mark.parametrize(
    ("expected", "key"),
    [
        ("", "a.weight"),
        ("bnb_nf4", "a.quant_state.bitsandbytes__nf4"),
        ("fp8_scaled", "a.scale_weight"),
        ("nunchaku", "a.wscales"),
        ("nunchaku-fp4", "a.wtscale"),
    ],
)
def test_special_format(expected, key):
    """Quantised files are told by the names of their tensors."""
    assert expected == special_format({key: [1]})


def test_tables():
    """Every class belongs to a compat class, has a size that is a multiple of its precision, and a name."""
    assert 173 == len(CLASSES)
    assert 61 == len(COMPAT_CLASSES)
    assert {found.compat_class for found in CLASSES.values()} == set(COMPAT_CLASSES)
    assert len(CLASSES) == len({found.name for found in CLASSES.values()})
    assert {"id", "name", "compat_class", "standard_width", "standard_height"} == set(
        CLASSES["stable-diffusion-v1"].wire()
    )
    video = COMPAT_CLASSES["minimax-h3"].wire()
    assert {
        "id": "minimax-h3",
        "short_code": "MMH3",
        "loras_target_text_enc": False,
        "is_text2video": True,
        "is_image2video": True,
        "is_audio_model": False,
        "has_joint_av_latents": True,
        "resolution_precision": 32,
        "vae_family": None,
    } == video


def test_stated_names():
    """A stated architecture is found in any letter case and by its older names."""
    assert "Flux.1-dev" == find_class(" FLUX-1-DEV ").id
    assert "stable-diffusion-xl-v1-base/lora" == find_class("Stable-Diffusion-XL-v1-base/LoRA").id
    assert find_class("") is None
    assert find_class("unheard-of") is None
