"""What this package needs of backends."""

from __future__ import annotations

from typing import Final

import attrs

from swarmkernel_backend_api import Capability


@attrs.frozen
class LoadModel:
    """Load this model and let go of the one before it.

    `name` is what the server calls the model from now on; `path` is a file or a diffusers folder on the server's
    machine. `prediction_type` is what the model's metadata state (`epsilon`, `v`) or None. `vae_path` replaces the
    model's own VAE.
    """

    name: str
    path: str
    compat_class: str | None = None
    class_id: str | None = None
    prediction_type: str | None = None
    vae_path: str | None = None


@attrs.frozen
class LoadProgress:
    """A load is under way: what it is doing, and how far it is (0 to 1)."""

    text: str
    fraction: float = 0.0


@attrs.frozen
class Loaded:
    """The model of that name is ready; always the last reply."""

    name: str


@attrs.frozen
class RefreshModels:
    """Look for models anew, because somebody wants to see what there is now."""


@attrs.frozen
class ModelsRefreshed:
    """It is done: the backend's `models` are what there is."""


LOAD_MODEL: Final = Capability(
    "load_model",
    LoadModel,
    LoadProgress | Loaded,
    at="swarmkernel_models_api.capability:LOAD_MODEL",
    streams=True,
)
"""`load_model(request)` of a backend: an async generator of `LoadProgress`, then one `Loaded`."""

REFRESH_MODELS: Final = Capability(
    "refresh_models",
    RefreshModels,
    ModelsRefreshed,
    at="swarmkernel_models_api.capability:REFRESH_MODELS",
    streams=False,
)
"""`refresh_models(request)` of a backend that has models of its own: called when the server looks for new ones."""
