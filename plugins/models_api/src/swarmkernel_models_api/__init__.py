"""Model folders, safetensors headers, architecture detection, listing and selection."""

from swarmkernel import hookimpl
from swarmkernel_models_api.capability import (
    LOAD_MODEL,
    REFRESH_MODELS,
    Loaded,
    LoadModel,
    LoadProgress,
    ModelsRefreshed,
    RefreshModels,
)
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
    "REFRESH_MODELS",
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
    "ModelsRefreshed",
    "ModelsSettings",
    "RefreshModels",
    "find_model",
    "form_misfit",
    "hookimpl",
    "stem",
]
