"""Stable Diffusion on torch and diffusers, as a backend type."""

from swarmkernel_backends_torch.settings import TorchSettings

__all__ = ["TorchSettings"]
