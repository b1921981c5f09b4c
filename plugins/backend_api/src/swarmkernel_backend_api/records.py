"""What the store keeps of backends."""

from typing import Any

import attrs

from swarmkernel import Collection, Store
from swarmkernel_backend_api.errors import SettingsError
from swarmkernel_backend_api.forms import to_settings
from swarmkernel_backend_api.types import BackendType, NoSettings

_EVER = "ever"


@attrs.frozen
class StoredBackend:
    """One real backend. ``settings`` are wire values, secrets in clear, kept verbatim even if the type is not installed."""

    id: int
    type_id: str
    title: str
    enabled: bool
    settings: dict[str, Any]


@attrs.define
class Records:
    """The stored backends, and whether there has ever been one."""

    _backends: Collection[StoredBackend]
    _marks: Collection[bool]
    _store: Store

    @classmethod
    def of(cls, store: Store) -> "Records":
        """The records in a store."""
        return cls(
            store.collection("backend_api.backends", StoredBackend),
            store.collection("backend_api.marks", bool),
            store,
        )

    async def load(self) -> list[StoredBackend]:
        """All stored backends by id."""
        return [record.value for record in await self._backends.items()]

    async def ever(self) -> bool:
        """Whether a backend was ever stored here."""
        return bool(await self._marks.get(_EVER))

    async def save(self, record: StoredBackend, *, old_id: int | None = None) -> None:
        """Store a backend, under a new id if ``old_id`` was another."""
        async with self._store.transaction():
            await self._backends.put(_key(record.id), record)
            if old_id is not None and old_id != record.id:
                await self._backends.delete(_key(old_id))
            await self._marks.put(_EVER, value=True)

    async def forget(self, number: int) -> None:
        """Remove a backend."""
        await self._backends.delete(_key(number))


def _key(number: int) -> str:
    """Ten digits, so that the store's order of keys is the order of ids."""
    return f"{number:010d}"


def missing_type(type_id: str) -> BackendType:
    """Stands for a type whose package is not installed."""
    return BackendType(type_id, type_id, make="missing:Missing", settings=NoSettings)


def revive(kind: BackendType, raw: dict[str, Any]) -> tuple[Any, str | None]:
    """Settings from stored wire values, and what is wrong with them."""
    try:
        return to_settings(kind.settings, raw), None
    except SettingsError as error:
        return kind.settings(), error.text
