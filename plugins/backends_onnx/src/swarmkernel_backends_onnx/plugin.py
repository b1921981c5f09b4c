"""What this package adds: the backend type `onnx`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from swarmkernel import Plugins, Services
from swarmkernel_backend_api import BackendType, NewBackend, hookimpl
from swarmkernel_backends_onnx.settings import OnnxSettings

ONNX = BackendType(
    "onnx",
    "ONNX (Stable Diffusion)",
    make="swarmkernel_backends_onnx.backend:OnnxBackend",
    settings=OnnxSettings,
    description="Stable Diffusion 1.x, 2.x and XL as ONNX on this machine, with continuous batching, without torch.",
    slots=lambda settings: settings.max_batch,
    # Clients show the samplers and schedulers only where some backend announces "comfyui".
    features=("comfyui", "variation_seed", "init_image", "mask_image"),
    compat_classes=frozenset({"stable-diffusion-v1", "stable-diffusion-v2", "stable-diffusion-xl-v1"}),
    formats={"onnx"},
)


@hookimpl
def backend_types() -> Iterable[BackendType]:
    """The type `onnx`."""
    return (ONNX,)


@hookimpl
def backend_defaults(services: Services) -> Iterable[NewBackend]:
    """One backend on the best device there is, unless torch's engine works here, which proposes its own."""
    working = {plugin.name for plugin in services.get(Plugins).working()}
    if "backends_torch" in working and find_spec("torch") is not None:
        return ()
    return (NewBackend("onnx", title="This machine"),)
