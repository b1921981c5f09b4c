"""The permissions of the model routes."""

from swarmkernel import Level, Permission

FUNDAMENTAL_MODEL_ACCESS = Permission(
    "fundamental_model_access",
    "Fundamental Model Access",
    group="User",
    default=Level.GUEST,
    description="List and describe models.",
)
LOAD_MODELS_NOW = Permission(
    "load_models_now",
    "Load Models Now",
    group="Control",
    default=Level.POWER,
    description="Have backends load a model at once.",
)
