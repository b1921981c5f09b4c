"""What other plugins still keep for users who are gone."""

import logging
import time

import attrs

from swarmkernel import Collection, Plugins, Services, Store, StoreError
from swarmkernel_accounts.values import AccountError

log = logging.getLogger(__name__)


@attrs.frozen
class Leftovers:
    """
    Deleted users whose settings, presets, pictures and the like are still there.

    Only a running server can see to that, and a user may be deleted while none runs. Until then nobody gets the name.
    """

    _rows: Collection[float]

    @classmethod
    def of(cls, store: Store) -> "Leftovers":
        """Those in *store*."""
        return cls(store.collection("accounts_leftovers", float))

    async def leave(self, user_id: str) -> None:
        """Note a user who is being deleted."""
        await self._rows.put(user_id, time.time())

    async def refuse(self, user_id: str) -> None:
        """AccountError for a name whose former user's things are still there."""
        if await self._rows.get(user_id) is not None:
            raise AccountError(
                f"What the former user {user_id} left has yet to be cleared away, which a running server does at once."
            )

    async def clear(self, services: Services) -> None:
        """Have every plugin clear away what it keeps for those users."""
        try:
            for row in await self._rows.items():
                if await _forget(services, row.key):
                    await self._rows.delete(row.key)
        except StoreError as exc:
            log.warning("what deleted users left behind is still there: %s", exc)


async def _forget(services: Services, user_id: str) -> bool:
    """Whether every plugin could forget the user; those that could not are asked again later."""
    is_done = True
    for plugin, implementation in services.get(Plugins).implementations("accounts_forget"):
        try:
            pending = implementation(services=services, user_id=user_id)
            if pending is not None:
                await pending
        except Exception:
            log.exception("%s could not forget the deleted user %s", plugin, user_id)
            is_done = False
    return is_done
