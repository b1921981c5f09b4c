"""Permissions of text to image, and those that its parameters ask for."""

from __future__ import annotations

from swarmkernel import Level, Permission

GENERATE_IMAGES = Permission(
    "basic_image_generation",
    "Basic Image Generation",
    group="User",
    default=Level.USER,
)
SEE_PARAMS = Permission(
    "fundamental_generate_tab_access",
    "Fundamental Generate Tab Access",
    group="User",
    default=Level.GUEST,
)
REFRESH = Permission(
    "control_model_refresh",
    "Control Model Refresh",
    group="Control",
    default=Level.POWER,
    description="Have the model folders scanned again.",
)
MODEL_PARAMS = Permission(
    "model_params",
    "Model Params",
    group="Parameters",
    default=Level.USER,
    description="Choose the model and its parts.",
)
BACKEND_TYPE_PARAM = Permission(
    "param_backend_type",
    "Backend Type Parameter",
    group="Parameters",
    default=Level.POWER,
    description="Restrict a generation to one type of backend.",
)
BACKEND_ID_PARAM = Permission(
    "param_backend_id",
    "Backend ID Parameter",
    group="Parameters",
    default=Level.POWER,
    description="Restrict a generation to one backend.",
)
VIEW_OTHERS = Permission(
    "view_others_outputs",
    "View Others Outputs",
    group="Admin",
    default=Level.ADMIN,
    description="See the pictures of other users.",
)

UNROUTED = (REFRESH, MODEL_PARAMS, BACKEND_TYPE_PARAM, BACKEND_ID_PARAM, VIEW_OTHERS)
