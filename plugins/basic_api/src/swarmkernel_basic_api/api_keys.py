"""Keys of other services. They go in, and never come out over the API."""

import asyncio
from datetime import datetime

import attrs

from swarmkernel import Collection, Store, Vault
from swarmkernel_basic_api.values import delete_all, key_of

KEY_TYPES = ("stability_api", "civitai_api", "huggingface_api")
MAX_LENGTH = 1000


class KeyTypeError(Exception):
    """There is no such type of key, or the key cannot be one; the text says why."""


@attrs.frozen
class StoredKey:
    """A key, sealed (older rows: in clear), and the server's local time when it was set."""

    secret: str = attrs.field(repr=False)
    updated: str


@attrs.define
class ApiKeys:
    """The users' API keys."""

    _rows: Collection[StoredKey]
    _vault: Vault

    @classmethod
    def of(cls, store: Store, vault: Vault) -> "ApiKeys":
        """Keep the keys in *store*, sealed by *vault*."""
        return cls(store.collection("api_keys", StoredKey), vault)

    async def set(self, user_id: str, key_type: str, secret: str) -> None:
        """Set a key; an empty one or ``none`` removes it."""
        if key_type not in KEY_TYPES:
            raise KeyTypeError(f"Unknown key type {key_type[:100]!r}; there are {', '.join(KEY_TYPES)}.")
        if len(secret) > MAX_LENGTH:
            raise KeyTypeError(f"A key has at most {MAX_LENGTH} characters.")
        key = key_of(user_id, key_type)
        if secret.strip() in {"", "none"}:
            await self._rows.delete(key)
        else:
            now = datetime.now().astimezone()
            sealed = await asyncio.to_thread(self._vault.seal, secret.strip())
            await self._rows.put(key, StoredKey(sealed, f"{now:%Y-%m-%d %H:%M}"))

    async def status(self, user_id: str, key_type: str) -> str:
        """When the key was set; both texts are literals of the protocol."""
        found = await self._rows.get(key_of(user_id, key_type))
        return f"last updated {found.updated}" if found else "not set"

    async def forget(self, user_id: str) -> None:
        """Delete all keys of a user."""
        await delete_all(self._rows, user_id)
