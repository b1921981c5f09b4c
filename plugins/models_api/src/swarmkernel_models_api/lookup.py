"""Finding a model without a running server."""

from __future__ import annotations

from swarmkernel import Plugins, ServerSettings, Services, Store
from swarmkernel_models_api.folders import model_folders
from swarmkernel_models_api.models import Models
from swarmkernel_models_api.settings import ModelsSettings
from swarmkernel_models_api.types import MAIN, Model


async def find_model(services: Services, text: str, kind: str = MAIN) -> Model | None:
    """The model that *text* means, however it is spelled, in this server's folders; for commands (`with_store`)."""
    added = services.get(Plugins).collect("models_folders", key=lambda folder: (folder.kind, folder.path))
    data_dir = services.get(ServerSettings).data_dir
    folders = model_folders(services.get(ModelsSettings), data_dir, added.values())
    models = Models(folders, services.get(Store))  # type: ignore[type-abstract]
    await models.remember()
    await models.refresh()
    return models.find(text, kind)
