"""Stable Diffusion on onnxruntime, without torch, as a backend type."""

from swarmkernel_backends_onnx.settings import OnnxSettings

__all__ = ["OnnxSettings"]
