"""What the nodes of a ComfyUI server look like in its `object_info`."""

from typing import Any

SAMPLERS = ["euler", "euler_ancestral", "dpmpp_2m", "of_this_server"]
SCHEDULERS = ["normal", "karras"]
CHECKPOINTS = ["alpha.safetensors", "folder\\beta.safetensors"]


def _info(outputs: int, optional: dict | None = None, **required: Any) -> dict[str, Any]:
    inputs = {"required": required} | ({"optional": optional} if optional else {})
    return {
        "input": {**inputs, "hidden": {"unique_id": "UNIQUE_ID"}},
        "input_order": {group: list(names) for group, names in inputs.items()},
        "output": ["X"] * outputs,
        "output_is_list": [False] * outputs,
        "output_name": ["X"] * outputs,
        "name": "node",
        "display_name": "A node",
        "description": "",
        "python_module": "nodes",
        "category": "image",
        "output_node": outputs == 0,
    }


def nodes() -> dict[str, Any]:
    """Its `object_info`, with lists in the old form and in the new one."""
    number, link = ["INT", {"default": 1}], ["LINK"]
    combo = lambda *options: ["COMBO", {"options": list(options)}]  # noqa: E731
    size = {"width": number, "height": number}
    return {
        "CheckpointLoaderSimple": _info(3, ckpt_name=[CHECKPOINTS, {"tooltip": "x"}]),
        "LoraLoader": _info(
            2,
            model=link,
            clip=link,
            lora_name=[["style.safetensors"]],
            strength_model=link,
            strength_clip=link,
        ),
        "CLIPSetLastLayer": _info(1, clip=link, stop_at_clip_layer=number),
        "VAELoader": _info(1, vae_name=[["good.safetensors"]]),
        "EmptyLatentImage": _info(1, **size, batch_size=number),
        "LoadImage": _info(2, image=[["a.png"], {"image_upload": True}]),
        "ImageScale": _info(
            1,
            image=link,
            upscale_method=[["nearest-exact", "bilinear", "lanczos"]],
            **size,
            crop=combo("disabled", "center"),
        ),
        "VAEEncode": _info(1, pixels=link, vae=link),
        "ImageBlur": _info(1, image=link, blur_radius=number, sigma=number),
        "ImageToMask": _info(1, image=link, channel=combo("red", "green", "blue", "alpha")),
        "SetLatentNoiseMask": _info(1, samples=link, mask=link),
        "CLIPTextEncode": _info(1, text=["STRING", {"multiline": True}], clip=link),
        "KSampler": _info(
            1,
            model=link,
            seed=number,
            steps=number,
            cfg=link,
            sampler_name=[SAMPLERS],
            scheduler=combo(*SCHEDULERS),
            positive=link,
            negative=link,
            latent_image=link,
            denoise=link,
        ),
        "VAEDecode": _info(1, samples=link, vae=link),
        "ImageCompositeMasked": _info(
            1, {"mask": link}, destination=link, source=link, x=number, y=number, resize_source=["BOOLEAN"]
        ),
        "PreviewImage": _info(0, images=link),
    }
