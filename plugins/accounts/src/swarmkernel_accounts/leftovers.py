"""What other plugins still keep for users who are gone."""

import logging
import time

import attrs

from swarmkernel import Collection, Services, Store, StoreError, UserAdmin

log = logging.getLogger(__name__)


@attrs.frozen
class Leftovers:
    """
    Deleted users whose settings, presets and the like have yet to be deleted.

    Only a running server can do that, and a user may be deleted while none runs.
    """

    _store: Store
    _rows: Collection[float]

    @classmethod
    def of(cls, store: Store) -> "Leftovers":
        """Those in *store*."""
        return cls(store, store.collection("accounts_leftovers", float))

    async def leave(self, user_id: str) -> None:
        """Note a user who is being deleted."""
        await self._rows.put(user_id, time.time())

    async def clear(self, services: Services) -> None:
        """Have everything deleted that is kept for those users."""
        keeper = services.find(UserAdmin)  # type: ignore[type-abstract]
        if keeper is None:
            return
        try:
            for row in await self._rows.items():
                async with self._store.transaction():
                    await keeper.forget(row.key)
                    await self._rows.delete(row.key)
        except StoreError as exc:
            log.warning("what deleted users left behind is still there: %s", exc)
