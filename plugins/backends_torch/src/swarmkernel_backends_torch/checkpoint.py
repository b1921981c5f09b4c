"""Single-file checkpoints: which model a safetensors file holds, read from the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import attrs
from safetensors import safe_open

from swarmkernel_backend_api import BackendError

Shapes = Mapping[str, tuple[int, ...]]
UNET = "model.diffusion_model."
VAE = "first_stage_model."
#: Where each family keeps its text encoders. OpenCLIP's prefixes end in ``.model.``.
TOWER_PREFIXES = {
    "sd1": {"text_encoder": "cond_stage_model.transformer.text_model."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {
        "text_encoder": "conditioner.embedders.0.transformer.text_model.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
}
#: Latents are divided by the spread that each family's autoencoder was trained to.
SCALING_FACTORS = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
#: The noise that all three families were trained on (arXiv:2112.10752, scaled linear betas).
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NOISE = {**BETAS, "num_train_timesteps": 1000}


def check_safetensors(path: Path) -> None:
    """Refuse a file that is not safetensors, whatever it is called: a pickle would run code of its author."""
    with path.open("rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    if len(head) == 9 and head[8:9] == b"{" and 8 + length <= path.stat().st_size:
        return
    if head[:2] == b"PK" or (head[:1] == b"\x80" and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}):
        raise BackendError(
            f"{path.name} is a pickle file, which can run code when it is loaded; convert it to safetensors.",
            "unsafe_model",
        )
    raise BackendError(f"{path.name} is not a whole safetensors file.", "model_corrupt")


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape, without loading any."""
    with safe_open(path, framework="pt") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


@attrs.frozen
class Checkpoint:
    """
    The parts of a checkpoint as diffusers and transformers configure them.

    *family* is sd1, sd2 or sdxl. *configs* maps a component's name to its configuration.
    """

    family: str
    configs: dict[str, dict[str, Any]]


def describe(shapes: Shapes, prediction: str | None) -> Checkpoint:
    """
    The family and configurations of a checkpoint with these tensors; BackendError for another architecture.

    *prediction* is what is known from elsewhere; a marker tensor in the file says it too, as does one for a noise
    schedule that ends in pure noise.
    """
    family = _family(shapes)
    marked = "v_prediction" if "v_pred" in shapes else "epsilon"
    scheduler = {
        "prediction_type": prediction or marked,
        "rescale_betas_zero_snr": "ztsnr" in shapes,
        **NOISE,
    }
    try:
        configs = {
            "unet": unet_config(shapes, family),
            "vae": vae_config(shapes, VAE, SCALING_FACTORS[family]),
            "scheduler": scheduler,
        }
        return Checkpoint(family, configs | _text_configs(shapes, family))
    except KeyError as exc:
        raise BackendError(f"This checkpoint is not whole: it has no tensor {exc}.", "model_corrupt") from exc


def _family(shapes: Shapes) -> str:
    whole = f"{UNET}input_blocks.0.0.weight" in shapes
    for prefix, family in (
        ("conditioner.embedders.1.", "sdxl"),
        ("conditioner.embedders.0.model.", "refiner"),
        ("cond_stage_model.model.", "sd2"),
        ("cond_stage_model.transformer.", "sd1"),
    ):
        if whole and any(key.startswith(prefix) for key in shapes):
            return refuse_refiner() if family == "refiner" else family
    raise BackendError(
        "This file is not a whole Stable Diffusion 1.x, 2.x or XL checkpoint: UNet, VAE and text encoders in one.",
        "unsupported_model",
    )


def refuse_refiner() -> NoReturn:
    """Say what an SDXL refiner is no use for."""
    raise BackendError(
        "This is an SDXL refiner, which cannot begin a picture; choose an SDXL base model.",
        "unsupported_model",
    )


@attrs.frozen
class _Level:
    """One resolution of the UNet: channels, blocks, and transformer layers per block (0: no attention)."""

    channels: int
    blocks: int
    transformers: int


def _levels(shapes: Shapes) -> list[_Level]:
    levels: list[_Level] = []
    blocks = 0
    channels = transformers = 0
    index = 1
    while any(key.startswith(f"{UNET}input_blocks.{index}.") for key in shapes):
        prefix = f"{UNET}input_blocks.{index}."
        if f"{prefix}0.op.weight" in shapes:
            levels.append(_Level(channels, blocks, transformers))
            blocks = 0
        else:
            blocks += 1
            channels = shapes[f"{prefix}0.out_layers.3.weight"][0]
            transformers = _count(shapes, rf"{re.escape(prefix)}1\.transformer_blocks\.(\d+)\.")
        index += 1
    return [*levels, _Level(channels, blocks, transformers)]


def _count(shapes: Shapes, pattern: str) -> int:
    found = {int(match[1]) for key in shapes if (match := re.match(pattern, key))}
    return max(found) + 1 if found else 0


def unet_config(shapes: Shapes, family: str) -> dict[str, Any]:
    """The configuration of ``UNet2DConditionModel``. Heads: 8 in SD 1.x, of 64 channels each in the others."""
    levels = _levels(shapes)
    linear = family != "sd1"
    down = ["CrossAttnDownBlock2D" if level.transformers else "DownBlock2D" for level in levels]
    up = ["CrossAttnUpBlock2D" if level.transformers else "UpBlock2D" for level in reversed(levels)]
    cross = shapes[f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1]
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": shapes[f"{UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "sample_size": {"sd1": 64, "sd2": 96, "sdxl": 128}[family],
        "block_out_channels": [level.channels for level in levels],
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": levels[0].blocks,
        "cross_attention_dim": cross,
        "attention_head_dim": [level.channels // 64 or 1 for level in levels] if linear else 8,
        "use_linear_projection": linear,
        "transformer_layers_per_block": [level.transformers or 1 for level in levels],
    }
    if family == "sdxl":
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": shapes[f"{UNET}label_emb.0.0.weight"][1],
        }
    return config


def vae_config(shapes: Shapes, prefix: str, scaling_factor: float) -> dict[str, Any]:
    """The configuration of ``AutoencoderKL`` for tensors whose names begin with *prefix*."""
    count = _count(shapes, rf"{re.escape(prefix)}encoder\.down\.(\d+)\.")
    layers = _count(shapes, rf"{re.escape(prefix)}encoder\.down\.0\.block\.(\d+)\.")
    channels = [shapes[f"{prefix}encoder.down.{n}.block.0.conv1.weight"][0] for n in range(count)]
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": channels,
        "layers_per_block": layers,
        "latent_channels": shapes[f"{prefix}decoder.conv_in.weight"][1],
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "up_block_types": ["UpDecoderBlock2D"] * count,
        "sample_size": 512,
        "scaling_factor": scaling_factor,
        "force_upcast": scaling_factor == SCALING_FACTORS["sdxl"],
    }


def _text_configs(shapes: Shapes, family: str) -> dict[str, dict[str, Any]]:
    # SD 2.x reads the layer before the last, so the last one is left out.
    drop = 1 if family == "sd2" else 0
    return {
        name: _open_clip(shapes, prefix, drop) if prefix.endswith(".model.") else _clip(shapes, prefix)
        for name, prefix in TOWER_PREFIXES[family].items()
    }


def _clip(shapes: Shapes, prefix: str) -> dict[str, Any]:
    hidden = shapes[f"{prefix}embeddings.token_embedding.weight"][1]
    return _text(
        shapes[f"{prefix}embeddings.token_embedding.weight"],
        positions=shapes[f"{prefix}embeddings.position_embedding.weight"][0],
        layers=_count(shapes, rf"{re.escape(prefix)}encoder\.layers\.(\d+)\."),
        intermediate=shapes[f"{prefix}encoder.layers.0.mlp.fc1.weight"][0],
        projection=hidden,
        act="quick_gelu",
    )


def _open_clip(shapes: Shapes, prefix: str, drop: int) -> dict[str, Any]:
    embedding = shapes[f"{prefix}token_embedding.weight"]
    return _text(
        embedding,
        positions=shapes[f"{prefix}positional_embedding"][0],
        layers=_count(shapes, rf"{re.escape(prefix)}transformer\.resblocks\.(\d+)\.") - drop,
        intermediate=shapes[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"][0],
        projection=shapes.get(f"{prefix}text_projection", embedding)[1],
        act="gelu",
    )


def _text(
    embedding: tuple[int, ...], *, positions: int, layers: int, intermediate: int, projection: int, act: str
) -> dict[str, Any]:
    vocabulary, hidden = embedding
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, hidden // 64),
        "max_position_embeddings": positions,
        "projection_dim": projection,
        "hidden_act": act,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
