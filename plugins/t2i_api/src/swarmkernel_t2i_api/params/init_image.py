"""The parameters of starting from a picture, as data. Their numbers are the wire's."""

from __future__ import annotations

from swarmkernel_t2i_api.params.types import Group, Param

INIT_IMAGE = Group("Init Image", -5, toggles=True, open=False)

INIT_IMAGE_PARAMS = (
    Param(
        "Init Image",
        "image",
        None,
        "The picture to start from: a PNG, JPEG, WEBP or GIF as a data URL, of at most 32 megapixels.",
        needs="init_image",
        priority=-5,
        group=INIT_IMAGE,
    ),
    Param(
        "Init Image Creativity",
        "decimal",
        "0.6",
        "How much of the init image may change: 0 leaves it as it is, 1 begins from noise alone.",
        min=0,
        max=1,
        step=0.05,
        view_type="slider",
        priority=-4.5,
        group=INIT_IMAGE,
        examples=("0", "0.4", "0.6", "1"),
    ),
    Param(
        "Mask Image",
        "image",
        None,
        "Which parts of the init image to change: white changes, black stays.",
        needs="mask_image",
        priority=-4,
        group=INIT_IMAGE,
    ),
    Param(
        "Mask Blur",
        "integer",
        "4",
        "How far the mask's edges are blurred, in pixels.",
        ignore="0",
        min=0,
        max=64,
        priority=-3.6,
        group=INIT_IMAGE,
        depend_non_default="maskimage",
        examples=("0", "4", "8", "16"),
    ),
)
