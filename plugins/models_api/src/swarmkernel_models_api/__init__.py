"""Model folders, safetensors headers, architecture detection, listing and selection."""

from swarmkernel import hookimpl
from swarmkernel_models_api.capability import LOAD_MODEL, Loaded, LoadModel, LoadProgress
from swarmkernel_models_api.classes import CLASSES, COMPAT_CLASSES, CompatClass, ModelClass
from swarmkernel_models_api.errors import ModelError, ModelLoadError
from swarmkernel_models_api.folders import KINDS
from swarmkernel_models_api.types import Metadata, Model, ModelFolder

__all__ = [
    "CLASSES",
    "COMPAT_CLASSES",
    "KINDS",
    "LOAD_MODEL",
    "CompatClass",
    "LoadModel",
    "LoadProgress",
    "Loaded",
    "Metadata",
    "Model",
    "ModelClass",
    "ModelError",
    "ModelFolder",
    "ModelLoadError",
    "hookimpl",
]
