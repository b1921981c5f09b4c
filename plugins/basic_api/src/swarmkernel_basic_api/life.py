"""What this package offers while the server runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from swarmkernel import ServerSettings, Services, Store, UserAdmin, UserData, Vault
from swarmkernel_basic_api.config import BasicSettings
from swarmkernel_basic_api.install import Installer
from swarmkernel_basic_api.pictures import Pictures
from swarmkernel_basic_api.users import Users


@asynccontextmanager
async def life(services: Services) -> AsyncIterator[None]:
    """Offer users' choices and the first-run installation."""
    store = services.get(Store)  # type: ignore[type-abstract]
    users = await asyncio.to_thread(
        Users.of,
        store,
        services.get(Vault),
        services.get(ServerSettings).data_dir,
        services.get(BasicSettings),
    )
    services.add(Users, users)
    services.add(UserData, users)  # type: ignore[type-abstract]
    services.add(UserAdmin, users)  # type: ignore[type-abstract]
    services.add(Installer, await asyncio.to_thread(Installer.of, services, users))
    pictures = Pictures()
    services.add(Pictures, pictures)
    try:
        yield
    finally:
        await asyncio.to_thread(pictures.close)
