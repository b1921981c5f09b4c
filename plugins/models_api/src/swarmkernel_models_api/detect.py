"""Which class a model is of, from the names and shapes of its tensors.

The keys are those that SwarmUI looks for, and more where real files differ. The first match wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

_PREFIXES: Final = ("", "diffusion_model.", "model.diffusion_model.", "net.", "transformer.")
_CLIP_L: Final = "cond_stage_model.transformer."
_CONTROL: Final = ("", "control_model.")
_LORA_ENDINGS: Final = (
    ".lora_A.weight",
    ".lora_A.default.weight",
    ".lora_up.weight",
    ".lora.up.weight",
    ".lokr_w1",
    ".diff",
)


@attrs.frozen
class Tensors:
    """The tensors of one file of the given kind and name: what the probes below look at."""

    shapes: Mapping[str, list[int]]
    name: str = ""
    kind: str = ""

    def has(self, *keys: str) -> bool:
        """Whether every key is there, bare or below one of the usual prefixes."""
        return all(any(prefix + key in self.shapes for prefix in _PREFIXES) for key in keys)

    def dim(self, key: str, index: int) -> int:
        """One dimension of a tensor (below one of the usual prefixes), 0 if there is none."""
        shape = next((self.shapes[p + key] for p in _PREFIXES if p + key in self.shapes), [])
        return shape[index] if -len(shape) <= index < len(shape) else 0

    def mentions(self, part: str) -> bool:
        """Whether any name contains *part*."""
        return any(part in name for name in self.shapes)

    @property
    def is_lora(self) -> bool:
        """Whether the file holds changes to another model's weights."""
        return any(name.startswith("lora_") or name.endswith(_LORA_ENDINGS) for name in self.shapes)

    @property
    def channels(self) -> int:
        """Input channels of a UNet in the original layout: 4, or 9 if it was made for inpainting."""
        return self.dim("input_blocks.0.0.weight", 1)


def detect_class(tensors: Tensors) -> str | None:
    """The id of the class, or None if no probe matches."""
    probes = _LORAS if tensors.is_lora else _MODELS
    return next((found for probe in probes if (found := probe(tensors))), None)


def special_format(shapes: Mapping[str, list[int]]) -> str:
    """The wire's name of a quantised format, judged by the names of the tensors; empty for plain weights."""
    for name in shapes:
        if "bitsandbytes__nf4" in name:
            return "bnb_nf4"
        if "bitsandbytes__fp4" in name:
            return "bnb_fp4"
        if name.endswith((".scale_weight", ".weight_scale")):
            return "fp8_scaled"
        if name.endswith(".wtscale"):
            return "nunchaku-fp4"
        if name.endswith(".wscales"):
            return "nunchaku"
    return ""


def _stable_diffusion(t: Tensors) -> str | None:
    """SD 1 and 2 in the original layout of one file, text encoder included."""
    if "cond_stage_model.model.ln_final.bias" in t.shapes:
        return _stable_diffusion_2(t)
    clip = (
        f"{_CLIP_L}{part}embeddings.{leaf}"
        for part in ("text_model.", "")
        for leaf in ("position_ids", "token_embedding.weight")
    )
    if any(key in t.shapes for key in clip):
        return "stable-diffusion-v1-inpainting" if t.channels == 9 else "stable-diffusion-v1"
    return None


def _stable_diffusion_2(t: Tensors) -> str:
    if "depth_model.model.pretrained.act_postprocess3.0.project.0.bias" in t.shapes:
        return "stable-diffusion-v2-depth"
    if "embedder.model.visual.transformer.resblocks.0.attn.in_proj_weight" in t.shapes:
        return "stable-diffusion-v2-unclip"
    if t.channels == 9:
        return "stable-diffusion-v2-inpainting"
    is_512 = any(hint in t.name.lower() for hint in ("512-", "-inpaint", "base-"))
    return "stable-diffusion-v2-512" if is_512 else "stable-diffusion-v2-768-v"


def _stable_diffusion_xl(t: Tensors) -> str | None:
    if t.has("denoiser.sigmas", "conditioner.embedders.0.model.ln_final.bias"):
        return "stable-diffusion-v2-turbo"
    if "conditioner.embedders.0.model.ln_final.bias" in t.shapes:
        return "stable-diffusion-xl-v1-refiner"
    embeddings = "conditioner.embedders.0.transformer.text_model.embeddings."
    if t.has(embeddings + "position_embedding.weight") or t.has(embeddings + "token_embedding.weight"):
        return "stable-diffusion-xl-v1-edit" if t.channels == 8 else "stable-diffusion-xl-v1-base"
    return None


def _controlnet(t: Tensors) -> str | None:
    if any(p + "input_blocks.1.0.emb_layers.1.bias" in t.shapes for p in _CONTROL) and not t.mentions(
        "cond_stage_model"
    ):
        is_control = (
            t.mentions("zero_convs.0.0") or "control_model.input_blocks.1.0.emb_layers.1.bias" in t.shapes
        )
        return "stable-diffusion-v1/controlnet" if is_control else None
    if "controlnet_down_blocks.0.bias" in t.shapes:
        attention = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
        return f"stable-diffusion-{'v1' if t.dim(attention, 1) == 768 else 'xl-v1-base'}/controlnet"
    return "stable-diffusion-xl-v1-base/control-lora" if "lora_controlnet" in t.shapes else None


def _embedding(t: Tensors) -> str | None:
    if t.dim("clip_g", -1) == 1280:
        return "stable-diffusion-xl-v1-base/textual-inversion"
    only = next(iter(t.shapes), "") if len(t.shapes) == 1 else ""
    key = only if only.startswith("<") and only.endswith(">") else "emb_params"
    sizes = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2-768-v"}
    found = sizes.get(t.dim(key, -1))
    return f"{found}/textual-inversion" if found else None


def _vae(t: Tensors) -> str | None:
    """An autoencoder of four latent channels; those of SD 1 and SDXL differ in their names alone."""
    if t.kind != "VAE" or t.dim("decoder.conv_in.weight", 1) != 4:
        return None
    return "stable-diffusion-xl-v1-base/vae" if "xl" in t.name.lower() else "stable-diffusion-v1/vae"


def _sd3(t: Tensors) -> str | None:
    width = t.dim("joint_blocks.0.context_block.attn.proj.bias", 0)
    return {0: None, 2432: "stable-diffusion-v3.5-large"}.get(width, "stable-diffusion-v3-medium")


def _flux(t: Tensors) -> str | None:
    sizes = {36864: "flux.2-dev", 18432: "flux.2-klein-4b", 24576: "flux.2-klein-9b"}
    if t.has("double_stream_modulation_img.lin.weight"):
        return sizes.get(t.dim("double_stream_modulation_img.lin.weight", 0))
    if t.has("nerf_image_embedder.embedder.0.bias"):
        return "chroma-radiance"
    if t.has("distilled_guidance_layer.in_proj.bias", "double_blocks.0.img_attn.proj.bias"):
        return "chroma"
    if t.has("double_blocks.0.img_attn.norm.key_norm.scale") and not t.mentions("individual_token_refiner"):
        return "Flux.1-dev" if t.has("guidance_in.in_layer.bias") else "Flux.1-schnell"
    return None


def _wan(t: Tensors) -> str | None:
    size = {1536: "1_3b", 5120: "14b", 3072: "5b"}.get(t.dim("blocks.0.cross_attn.k.bias", 0))
    if size is None or size == "5b":
        return size and "wan-2_2-ti2v-5b"
    if t.has("vace_blocks.0.after_proj.bias"):
        return f"wan-2_1-vace-{size}"
    if t.has("img_emb.emb_pos"):
        return "wan-2_1-flf2v-14b"
    if t.has("img_emb.proj.0.bias") or t.has("blocks.0.cross_attn.k_img.bias"):
        return f"wan-2_1-image2video-{size}"
    if t.dim("patch_embedding.weight", 1) == 36:
        return "wan-2_2-image2video-14b"
    return f"wan-2_1-text2video-{size}"


def _keyed(class_id: str, *keys: str) -> Callable[[Tensors], str | None]:
    """A probe that asks for a few keys and nothing else."""
    return lambda t: class_id if t.has(*keys) else None


def _lora_xl(t: Tensors) -> str | None:
    keys = (
        "lora_unet_output_blocks_5_1_transformer_blocks_1_ff_net_2.lora_up.weight",
        "lora_unet_down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_v.lora_up.weight",
    )
    found = any(key in t.shapes for key in keys) or t.mentions(
        "down_blocks.2.attentions.1.transformer_blocks.9."
    )
    text = t.mentions("lora_te1_text_model_encoder_layers_0_")
    return "stable-diffusion-xl-v1-base/lora" if found or text else None


def _lora_flux(t: Tensors) -> str | None:
    parts = ("double_blocks_", "double_blocks.", "single_blocks_", "single_transformer_blocks.")
    return "Flux.1-dev/lora" if any(t.mentions(part) for part in parts) else None


def _lora_sd(t: Tensors) -> str | None:
    key = "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_"
    if not (t.mentions(key) or t.mentions("unet.up_blocks.3.attentions.2.")):
        return None
    width = t.dim(f"{key}attn2_to_k.lora_down.weight", 1)
    return "stable-diffusion-v2-768-v/lora" if width == 1024 else "stable-diffusion-v1/lora"


_LORAS: Final = (_controlnet, _lora_flux, _lora_xl, _lora_sd)

_MODELS: Final = (
    _stable_diffusion_xl,
    _controlnet,
    _stable_diffusion,
    _keyed("stable-video-diffusion-img2vid-v1", "input_blocks.1.0.time_stack.emb_layers.1.bias"),
    _embedding,
    _vae,
    _keyed("stable-cascade-v1-stage-a/vae", "vquantizer.codebook.weight"),
    _keyed("stable-cascade-v1-stage-b", "clf.1.weight", "clip_mapper.weight"),
    _keyed("stable-cascade-v1-stage-c", "clf.1.weight", "clip_txt_mapper.weight"),
    _sd3,
    _keyed(
        "hunyuan-video-1_5",
        "vision_in.proj.0.bias",
        "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.weight",
    ),
    _keyed("hunyuan-video", "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.weight"),
    _flux,
    _wan,
    _keyed("lightricks-ltx-video-2", "transformer_blocks.1.audio_to_video_attn.k_norm.weight"),
    _keyed("lightricks-ltx-video", "adaln_single.emb.timestep_embedder.linear_1.bias"),
    _keyed("z-image", "context_refiner.0.attention.k_norm.weight", "layers.0.adaLN_modulation.0.bias"),
    _keyed("lumina-2", "cap_embedder.0.weight"),
    _keyed(
        "qwen-image",
        "time_text_embed.timestep_embedder.linear_1.bias",
        "img_in.bias",
        "transformer_blocks.0.attn.add_k_proj.bias",
    ),
    _keyed("hidream-i1", "caption_projection.0.linear.weight"),
    _keyed(
        "omnigen-2",
        "time_caption_embed.timestep_embedder.linear_2.weight",
        "context_refiner.0.attn.norm_k.weight",
    ),
    _keyed("auraflow-v1", "model.cond_seq_linear.weight"),
    _keyed("nvidia-sana-1600", "attention_y_norm.weight"),
    _keyed("genmo-mochi-1", "blocks.0.attn.k_norm_x.weight"),
)
