"""Who comes in, and who has to go."""

import time
from collections.abc import Mapping
from typing import Any

import attrs

from swarmkernel import (
    LOCAL_USER,
    Identity,
    Plugins,
    Services,
    Session,
    Sessions,
    SetupRequiredError,
    is_from_here,
)
from swarmkernel_accounts import cookies
from swarmkernel_accounts.directory import Directory
from swarmkernel_accounts.permissions import MANAGE_USERS
from swarmkernel_accounts.rights import Rights
from swarmkernel_accounts.tokens import Tokens


@attrs.define
class Gate:
    """The services `Accounts` and `Limits`, offered while accounts are required."""

    _services: Services
    _directory: Directory
    _tokens: Tokens
    _known: dict[str, Rights] = attrs.field(init=False)
    #: Users whose sessions must end, until that is done: the store may not be able to, for a while.
    _due: set[str] = attrs.field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._known = self._rights()

    async def identify(self, headers: Mapping[str, str], peer: str) -> Identity | None:
        """Who the login token in *headers* proves; else, where that is trusted, whoever calls from this machine."""
        text = cookies.presented(headers)
        token = await self._tokens.verify(text) if text else None
        if token and token.user_id in self._directory.users:
            return Identity(token.user_id, token.id)
        if self._directory.trusts_local and is_from_here(headers, peer):
            return Identity(LOCAL_USER)
        if not self._directory.owners():
            raise SetupRequiredError(
                "This server has no owner yet. Make one with the setup token on its console, or with the command"
                " `swarmkernel users add NAME --role owner`."
            )
        return None

    def admits(self, session: Session) -> bool:
        """Whether the session's user, the token that made it, and a right to act as that user are still there."""
        holder = session.impersonator or session.user_id
        if session.impersonator is not None and not self.may_act_as(holder, session.user_id):
            return False
        if session.token_id is None:
            return holder == LOCAL_USER and self._directory.trusts_local
        return session.user_id in self._directory.users and self._tokens.use(holder, session.token_id)

    def may_act_as(self, user_id: str, other: str) -> bool:
        """Whether who manages users may act as another: downwards only, as one with fewer rights."""
        mine, theirs = self._directory.rights(user_id), self._directory.rights(other)
        is_below = mine.covers(theirs) and not theirs.covers(mine)
        return other in self._directory.users and is_below and mine.has(MANAGE_USERS.id)

    def of(self, user_id: str) -> Mapping[str, Any]:
        """The user's limits."""
        return self._directory.rights(user_id).limits()

    async def settle(self) -> None:
        """
        End the sessions whose ground is gone, after a change of users, roles or tokens.

        Those of users who are gone or whose rights changed lose their running work too. Where only the token is gone,
        after a logout say, work goes on and is kept.
        """
        old, self._known = self._known, self._rights()
        changed = {user_id for user_id, rights in old.items() if not _same(rights, self._known.get(user_id))}
        self._due |= changed
        due, sessions = frozenset(self._due), self._services.get(Sessions)
        if due:
            await sessions.end_where(lambda s: not due.isdisjoint((s.user_id, s.impersonator)))
        for session in sessions.live():
            if not self.admits(session):
                await sessions.end(session)
        for user_id in due:  # last, so that nothing is begun after it
            self._interrupt(user_id)
        self._due -= due

    def _rights(self) -> dict[str, Rights]:
        return {user_id: self._directory.rights(user_id) for user_id in self._directory.users}

    def _interrupt(self, user_id: str) -> None:
        """Stop the user's work, which goes on without sessions otherwise."""
        now = time.time()
        self._services.get(Plugins).gather(
            "basic_interrupt",
            services=self._services,
            session=Session("", user_id, "", now, now),
            other_sessions=True,
        )


def _same(old: Rights, new: Rights | None) -> bool:
    return old is new or (new is not None and old.covers(new) and new.covers(old))
