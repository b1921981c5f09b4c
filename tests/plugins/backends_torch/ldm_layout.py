"""The layout of Stability AI's single-file checkpoints: what the networks of a diffusers pipeline are called there."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "final_layer_norm": "ln_final",  # before the other layer norms
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm": "ln_",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
}


def _replaced(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def _unet_name(name: str, layers: int, up_attends: list[bool]) -> str:
    match = re.match(r"(down|up|mid)_blocks?(?:\.(\d+))?\.(\w+?)s\.(\d+)\.(.*)", name)
    if match is None:
        end = next(end for end in _UNET_ENDS if name.startswith(end + "."))
        return name.replace(end, _UNET_ENDS[end], 1)
    side, level, part, index, rest = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    if part == "resnet":
        rest = _replaced(rest, _UNET_RESNET)
    if side == "mid":
        return f"middle_block.{1 if part == 'attention' else 2 * index}.{rest}"
    block = (layers + 1) * level
    if part == "downsampler":
        return f"input_blocks.{block + layers + 1}.0.op.{rest.removeprefix('conv.')}"
    if part == "upsampler":
        return f"output_blocks.{block + layers}.{2 if up_attends[level] else 1}.{rest}"
    place = 1 if part == "attention" else 0
    return (
        f"input_blocks.{block + index + 1}.{place}.{rest}"
        if side == "down"
        else (f"output_blocks.{block + index}.{place}.{rest}")
    )


def unet_tensors(unet: Any) -> Tensors:
    layers = unet.config.layers_per_block
    up_attends = ["CrossAttn" in kind for kind in unet.config.up_block_types]
    return {
        f"model.diffusion_model.{_unet_name(name, layers, up_attends)}": tensor
        for name, tensor in unet.state_dict().items()
    }


def vae_tensors(vae: Any, prefix: str = "first_stage_model.") -> Tensors:
    last = len(vae.config.block_out_channels) - 1
    found = {}
    for name, tensor in vae.state_dict().items():
        new = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        new = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", new)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", new)
        new = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{last - int(m[1])}.block.", new)
        new = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f"up.{last - int(m[1])}.upsample.", new)
        new = re.sub(r"mid_block\.resnets\.(\d+)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", new)
        attends = "mid_block.attentions.0." in new
        if attends:
            new = _replaced(new.replace("mid_block.attentions.0.", "mid.attn_1."), _VAE_ATTENTION)
        found[prefix + new] = tensor[:, :, None, None] if attends and tensor.ndim == 2 else tensor
    return found


def _bare(tower: Any) -> Tensors:
    return {name.removeprefix("text_model."): tensor for name, tensor in tower.state_dict().items()}


def clip_tensors(tower: Any, prefix: str) -> Tensors:
    found = {f"{prefix}text_model.{name}": tensor for name, tensor in _bare(tower).items()}
    positions = torch.arange(tower.config.max_position_embeddings)[None]
    return found | {f"{prefix}text_model.embeddings.position_ids": positions}


def open_clip_tensors(tower: Any, prefix: str, *, spare_layer: bool = False) -> Tensors:
    """With spare_layer, there is one more layer at the end, as in SD 2.x checkpoints."""
    tensors = _bare(tower)
    if spare_layer:
        last = tower.config.num_hidden_layers - 1
        old, new = f"encoder.layers.{last}.", f"encoder.layers.{last + 1}."
        tensors |= {n.replace(old, new): t * 3 for n, t in tensors.items() if n.startswith(old)}
    found = {f"{prefix}logit_scale": torch.tensor(4.6)}
    for name, tensor in tensors.items():
        if name == "text_projection.weight":
            found[f"{prefix}text_projection"] = tensor.T
        elif ".q_proj." in name:
            stacked = torch.cat([tensors[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"])
            new = name.replace("self_attn.q_proj.", "attn.in_proj_")
            found[prefix + _replaced(new, _OPEN_CLIP)] = stacked
        elif ".k_proj." not in name and ".v_proj." not in name:
            found[prefix + _replaced(name, _OPEN_CLIP)] = tensor
    if spare_layer:
        found[f"{prefix}text_projection"] = torch.eye(tower.config.hidden_size)
    return found


def checkpoint(pipeline: Any, family: str) -> Tensors:
    """All of a pipeline's weights under the names of a single-file checkpoint."""
    found = unet_tensors(pipeline.unet) | vae_tensors(pipeline.vae)
    if family == "sd1":
        found |= clip_tensors(pipeline.text_encoder, "cond_stage_model.transformer.")
    elif family == "sd2":
        found |= open_clip_tensors(pipeline.text_encoder, "cond_stage_model.model.", spare_layer=True)
    else:
        found |= clip_tensors(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
        found |= open_clip_tensors(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    return found | {"alphas_cumprod": pipeline.scheduler.alphas_cumprod.float()}


def write(tensors: Tensors, path: Path, dtype: torch.dtype | None = None) -> Path:
    """Write a safetensors file, in another number format if one is given."""
    save_file(
        {
            name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).contiguous().clone()
            for name, tensor in tensors.items()
        },
        path,
        {"format": "pt"},
    )
    return path
