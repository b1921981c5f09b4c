"""Calls to another server of this API: sessions, and errors in its own words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import attrs
import orjson

from swarmkernel import SERVER_ID
from swarmkernel_backends_remote.answers import error_id, read_object, text
from swarmkernel_backends_remote.errors import PeerBusyError, PeerError, PeerLostError
from swarmkernel_backends_remote.messages import messages
from swarmkernel_backends_remote.web import Web

#: Sessions there that are kept for later work.
SPARE_SESSIONS: Final = 32
_INVALID: Final = "invalid_session_id"
#: Errors after which the same work may be done elsewhere.
_LOST: Final = {"shutting_down": PeerLostError, "server_busy": PeerBusyError}
#: Servers give a sign of life on a socket each half minute.
SILENT_SECONDS: Final = 60.0


@attrs.define(eq=False)
class PeerSession:
    """A session there. It may become another one, if the server has forgotten it."""

    id: str


@attrs.define(eq=False)
class Peer:
    """Another server. It stays open until everyone who holds it has let go; `server_id` is what it said last."""

    web: Web
    server_id: str = attrs.field(default="", init=False)
    _spare: list[PeerSession] = attrs.field(factory=list, init=False, repr=False)
    _holders: int = attrs.field(default=0, init=False)

    @property
    def name(self) -> str:
        """How texts name the server."""
        return self.web.name

    async def hold(self) -> None:
        """Keep it open until `let_go`."""
        self._holders += 1
        if self._holders == 1:
            await self.web.open()

    async def let_go(self) -> None:
        """The last one to let go closes it."""
        self._holders -= 1
        if self._holders == 0:
            await self.web.close()

    async def borrow(self) -> PeerSession:
        """A session for one piece of work, so that an interrupt ends that alone."""
        return self._spare.pop() if self._spare else await self.open_session()

    def give_back(self, session: PeerSession) -> None:
        """A session in which nothing runs any more."""
        if len(self._spare) < SPARE_SESSIONS:
            self._spare.append(session)

    async def open_session(self) -> PeerSession:
        """A new session; PeerError if the other server is this one."""
        session = PeerSession("")
        await self._renew(session)
        return session

    async def _renew(self, session: PeerSession) -> None:
        answer = await self.web.object("POST", "/API/GetNewSession", body={}, most_mib=1, may_refuse=True)
        self.check(answer, "a session")
        found = answer.get("session_id")
        if not isinstance(found, str) or not 0 < len(found) <= 200:
            raise PeerError(f"{self.name} gave no session.")
        if answer.get("server_id") == SERVER_ID:
            raise PeerError("The setting Address leads to this server itself.", "remote_loop")
        self.server_id = text(answer.get("server_id"), 100)
        session.id = found

    async def call(
        self,
        session: PeerSession,
        route: str,
        *,
        seconds: float | None = None,
        most_mib: int | None = None,
        **body: Any,
    ) -> dict[str, Any]:
        """What a route answers, in `seconds` if it takes work. A session that is gone is replaced, once."""
        for is_last in (False, True):
            answer = await self.web.object(
                "POST",
                f"/API/{route}",
                body={"session_id": session.id, **body},
                seconds=seconds,
                most_mib=most_mib,
                may_refuse=True,
            )
            if answer.get("error_id") != _INVALID or is_last:
                break
            await self._renew(session)
        self.check(answer, route)
        return answer

    async def stream(
        self, session: PeerSession, route: str, body: Mapping[str, Any], most_mib: int
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The frames of a WebSocket route until it closes. A session that is gone is replaced, once."""
        for is_last in (False, True):
            async with self.web.socket(f"/API/{route}", most_mib) as socket:
                await socket.send(orjson.dumps({"session_id": session.id, **body}).decode())
                async for message in messages(socket, seconds=SILENT_SECONDS, decode=False):
                    frame = await read_object(message)
                    if frame.get("error_id") == _INVALID and not is_last:
                        break
                    self.check(frame, route)
                    yield frame
                else:
                    return
            await self._renew(session)

    def check(self, answer: Mapping[str, Any], what: str) -> None:
        """Raise what an answer says went wrong."""
        if answer.get("error") is None:
            return
        said, found = self.web.hide(text(answer["error"])) or "no reason", error_id(answer.get("error_id"))
        told = f"{self.name} refused {what}: {said}"
        if found in _LOST:
            raise _LOST[found](told)
        raise PeerError(told, found or "remote_failed")
