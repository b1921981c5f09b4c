"""What this package adds: the backend type `torch`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

import click

from swarmkernel import Services
from swarmkernel_backend_api import BackendType, NewBackend, hookimpl
from swarmkernel_backends_torch.settings import TorchSettings

TORCH = BackendType(
    "torch",
    "Torch (Stable Diffusion)",
    make="swarmkernel_backends_torch.backend:TorchBackend",
    settings=TorchSettings,
    description="Stable Diffusion 1.x, 2.x and XL on this machine, with continuous batching.",
    slots=lambda settings: settings.max_batch,
    # Clients show the samplers and schedulers only where some backend announces "comfyui".
    features=("comfyui", "variation_seed", "init_image", "mask_image"),
    compat_classes=frozenset({"stable-diffusion-v1", "stable-diffusion-v2", "stable-diffusion-xl-v1"}),
    formats={"safetensors"},
)


@hookimpl
def backend_types() -> Iterable[BackendType]:
    """The type `torch`."""
    return (TORCH,)


@hookimpl
def backend_defaults(services: Services) -> Iterable[NewBackend]:  # noqa: ARG001
    """One backend on the best device there is, so that a fresh install generates; none without torch."""
    if find_spec("torch") is None:
        return ()
    return (NewBackend("torch", title="This machine"),)


@hookimpl
def swarm_commands() -> Iterable[click.Command]:
    """The command `export-onnx`."""
    from swarmkernel_backends_torch.commands import commands  # noqa: PLC0415  # few ask for it

    return commands()
