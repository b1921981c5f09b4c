"""From the server's start to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from swarmkernel import Plugins, ServerSettings, Services, Store
from swarmkernel_backend_api import Backends
from swarmkernel_models_api.elsewhere import Elsewhere
from swarmkernel_models_api.folders import model_folders, roots_of
from swarmkernel_models_api.limits import by_roles
from swarmkernel_models_api.models import Models
from swarmkernel_models_api.remote import RemoteModels
from swarmkernel_models_api.settings import ModelsSettings

log = logging.getLogger(__name__)

#: How long the server's start waits for the first scan; a longer one goes on while the server already answers.
PATIENCE: Final = 5.0


@asynccontextmanager
async def life(services: Services) -> AsyncIterator[None]:
    """Offer `Models`, with the models that are there now."""
    added = services.get(Plugins).collect("models_folders", key=lambda folder: (folder.kind, folder.path))
    settings, data_dir = services.get(ModelsSettings), services.get(ServerSettings).data_dir
    folders, roots = model_folders(settings, data_dir, added.values()), roots_of(settings, data_dir)
    for folder in folders:
        if folder.path.is_relative_to(data_dir):
            folder.path.mkdir(parents=True, exist_ok=True)
    remote = RemoteModels(services.get(Backends))
    store = services.get(Store)  # type: ignore[type-abstract]
    models = Models(folders, store, remote=remote, reader=Elsewhere(), roots=roots)
    models.restrict(by_roles(services))
    services.add(Models, models)
    first = asyncio.create_task(_first_scan(models))
    await asyncio.wait({first}, timeout=PATIENCE)
    try:
        yield
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await models.close()


async def _first_scan(models: Models) -> None:
    try:
        await models.remember()
        await models.refresh()
    except Exception:
        log.exception("the first look at the model folders failed")
