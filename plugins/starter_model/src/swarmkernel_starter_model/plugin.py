"""Adds the folder with the starter model to the folders that the model list reads."""

from pathlib import Path

from swarmkernel_models_api import ModelFolder, hookimpl

MODELS = Path(__file__).parent / "models"


@hookimpl
def models_folders() -> list[ModelFolder]:
    """The one read-only folder of this package; its model is listed as `starter`."""
    return [ModelFolder(MODELS, kind="Stable-Diffusion", read_only=True)]
