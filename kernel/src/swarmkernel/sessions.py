"""Sessions: who is calling, kept in the store so that they outlive a restart."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable

import attrs

from swarmkernel.errors import ConflictError, StoreError
from swarmkernel.store import Collection, Record, Store

log = logging.getLogger(__name__)

#: Sessions end after 31 days without use, as clients of this API expect.
IDLE_SECONDS = 31 * 24 * 3600
#: The stored time of last use may lag behind by this much, so that a busy session does not write on each call.
TOUCH_SECONDS = 3600


@attrs.frozen
class StoredSession:
    """What the store keeps of a session, under the SHA-256 of its id."""

    user_id: str
    address: str
    created: float
    last_used: float
    token_id: str | None = None
    impersonator: str | None = None


@attrs.define(eq=False)
class Session:
    """
    One client's session.

    *id* is 40 lower-case hexadecimal characters; times are Unix seconds; *token_id* is the login token that made it;
    *impersonator* is the user who really acts, where that is another.
    *ended* is set when the session dies, so that whoever holds a socket for it can close it.
    """

    id: str
    user_id: str
    address: str
    created: float
    last_used: float
    token_id: str | None = None
    impersonator: str | None = None
    ended: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)


@attrs.define
class Sessions:
    """
    All sessions, live ones in memory and all of them in the store.

    *admits* says whether what a session rests on still holds; it is asked with each use.
    """

    _stored: Collection[StoredSession]
    _per_user: int = 1000
    admits: Callable[[Session], bool] = attrs.field(default=lambda _: True, init=False)
    _live: dict[str, Session] = attrs.field(factory=dict, init=False)
    _touched: dict[str, float] = attrs.field(factory=dict, init=False)

    @classmethod
    def of(cls, store: Store, per_user: int) -> Sessions:
        """The sessions in *store*; a user's oldest ones give way beyond *per_user*."""
        return cls(store.collection("sessions", StoredSession), per_user)

    async def open(
        self, user_id: str, address: str, token_id: str | None = None, impersonator: str | None = None
    ) -> Session:
        """
        Make a session for a user, stored before it is returned.

        While the store cannot write, a full disk say, it is not kept over a restart.
        """
        now = time.time()
        session = Session(secrets.token_hex(20), user_id, address[:100], now, now, token_id, impersonator)
        try:
            await self._stored.put(_key(session.id), _record(session))
        except StoreError as exc:
            log.warning("a new session lives until the next restart only: %s", exc)
        self._live[session.id] = session
        self._touched[session.id] = now
        await self._make_room(user_id)
        return session

    async def find(self, session_id: str) -> Session | None:
        """The session of that id, revived from the store after a restart; None if it is unknown or has ended."""
        session = self._live.get(session_id)
        if session is None:
            session = await self._revive(session_id)
        if session is None or session.last_used < time.time() - IDLE_SECONDS:
            return None
        return session if self.admits(session) else None

    async def touch(self, session: Session) -> None:
        """Count a use of *session*; the store hears of it once an hour."""
        session.last_used = time.time()
        if session.last_used - self._touched.get(session.id, 0) > TOUCH_SECONDS:
            self._touched[session.id] = session.last_used
            await self._stored.put(_key(session.id), _record(session))

    def live(self) -> list[Session]:
        """Sessions used since the server started."""
        return list(self._live.values())

    def of_user(self, user_id: str) -> list[Session]:
        """The live sessions of one user."""
        return [s for s in self._live.values() if s.user_id == user_id]

    async def end(self, session: Session) -> None:
        """End a session for good."""
        await self._stored.delete(_key(session.id))
        self._live.pop(session.id, None)
        self._touched.pop(session.id, None)
        session.ended.set()

    async def end_where(self, match: Callable[[StoredSession], bool]) -> None:
        """End every session that *match* picks, whether it was used since the server started or not."""
        for session in self.live():
            if match(_record(session)):
                await self.end(session)
        for row in await self._stored.items():
            if match(row.value):
                await self._stored.delete(row.key)

    async def purge(self) -> None:
        """Forget sessions that nobody has used for 31 days, and those of a user who has too many from before a restart."""
        oldest = time.time() - IDLE_SECONDS
        for session in [s for s in self._live.values() if s.last_used < oldest]:
            await self.end(session)
        rows = await self._stored.items()
        over = self._too_many(rows)
        for row in rows:
            if row.value.last_used < oldest or row.key in over:
                try:
                    await self._stored.delete(row.key, version=row.version)
                except ConflictError:
                    continue  # used in this very moment

    def _too_many(self, rows: Iterable[Record[StoredSession]]) -> set[str]:
        """Keys of sessions that no server has used of late, the least used first, beyond what their user may have."""
        awake = {_key(session_id) for session_id in self._live}
        by_user: dict[str, list[Record[StoredSession]]] = {}
        for row in sorted(rows, key=lambda row: (row.key in awake, row.value.last_used)):
            by_user.setdefault(row.value.user_id, []).append(row)
        first = (mine[: max(len(mine) - self._per_user, 0)] for mine in by_user.values())
        return {row.key for some in first for row in some} - awake

    async def _revive(self, session_id: str) -> Session | None:
        stored = await self._stored.get(_key(session_id))
        if stored is None:
            return None
        session = Session(session_id, **attrs.asdict(stored))
        return self._live.setdefault(session_id, session)

    async def _make_room(self, user_id: str) -> None:
        mine = self.of_user(user_id)
        if len(mine) > self._per_user:
            await self.end(min(mine, key=lambda s: s.last_used))


def _key(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()


def _record(session: Session) -> StoredSession:
    return StoredSession(**{name: getattr(session, name) for name in attrs.fields_dict(StoredSession)})
