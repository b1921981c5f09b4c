"""What the store keeps of backends."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from swarmkernel import Collection, Store, StoreError, Vault
from swarmkernel_backend_api.errors import SettingsError
from swarmkernel_backend_api.forms import secret_names, to_settings
from swarmkernel_backend_api.types import BackendType, NoSettings

_EVER = "ever"


@attrs.frozen
class StoredBackend:
    """One real backend. ``settings`` are wire values, secrets sealed, kept verbatim even if the type is not installed."""

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
    _vault: Vault

    @classmethod
    def of(cls, store: Store, vault: Vault) -> "Records":
        """The records in a store, their secrets sealed with a vault."""
        return cls(
            store.collection("backend_api.backends", StoredBackend),
            store.collection("backend_api.marks", bool),
            store,
            vault,
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

    async def sealed(self, kind: type, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Wire values as they are stored."""
        return await asyncio.to_thread(_with_secrets, kind, raw, self._vault.seal)

    async def revive(
        self, kind: BackendType | None, record: StoredBackend
    ) -> tuple[Any, dict[str, Any], str | None]:
        """Settings from stored wire values, these values with all secrets sealed, and what is wrong with them."""
        raw, problem = record.settings, None
        if kind is None:
            return None, raw, f"the backend type {record.type_id!r} is not installed"
        try:
            clear = await asyncio.to_thread(_with_secrets, kind.settings, raw, self._vault.open)
            raw = await self.sealed(kind.settings, clear)
        except StoreError as error:
            clear = {name: raw[name] for name in raw.keys() - secret_names(kind.settings)}
            problem = str(error)
        try:
            return to_settings(kind.settings, clear), raw, problem
        except SettingsError as error:
            return kind.settings(), raw, error.text

    async def forget(self, number: int) -> None:
        """Remove a backend."""
        await self._backends.delete(_key(number))


def _key(number: int) -> str:
    """Ten digits, so that the store's order of keys is the order of ids."""
    return f"{number:010d}"


def missing_type(type_id: str) -> BackendType:
    """Stands for a type whose package is not installed."""
    return BackendType(type_id, type_id, make="missing:Missing", settings=NoSettings)


def _with_secrets(kind: type, raw: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The values, with the secrets among them changed; one that is empty stays so."""
    found = {name: raw[name] for name in raw.keys() & secret_names(kind) if raw[name] not in (None, "")}
    changed = {
        name: [change(str(item)) for item in value] if isinstance(value, list) else change(str(value))
        for name, value in found.items()
    }
    return {**raw, **changed}
