"""Model folders, safetensors headers, architecture detection, listing and selection."""

from swarmkernel import hookimpl
from swarmkernel_models_api.capability import LOAD_MODEL, Loaded, LoadModel, LoadProgress
from swarmkernel_models_api.classes import CLASSES, COMPAT_CLASSES, CompatClass, ModelClass
from swarmkernel_models_api.errors import ModelError, ModelLoadError
from swarmkernel_models_api.forms import form_misfit
from swarmkernel_models_api.lookup import find_model
from swarmkernel_models_api.models import Models
from swarmkernel_models_api.permissions import FUNDAMENTAL_MODEL_ACCESS, LOAD_MODELS_NOW
from swarmkernel_models_api.remote import ModelList, stem
from swarmkernel_models_api.settings import KINDS, ModelsSettings
from swarmkernel_models_api.types import Metadata, Model, ModelFolder

__all__ = [
    "CLASSES",
    "COMPAT_CLASSES",
    "FUNDAMENTAL_MODEL_ACCESS",
    "KINDS",
    "LOAD_MODEL",
    "LOAD_MODELS_NOW",
    "CompatClass",
    "LoadModel",
    "LoadProgress",
    "Loaded",
    "Metadata",
    "Model",
    "ModelClass",
    "ModelError",
    "ModelFolder",
    "ModelList",
    "ModelLoadError",
    "Models",
    "ModelsSettings",
    "find_model",
    "form_misfit",
    "hookimpl",
    "stem",
]
