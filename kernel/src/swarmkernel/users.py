"""What plugins may know of users without knowing who keeps them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from swarmkernel.guard import headers_of, peer
from swarmkernel.services import Services
from swarmkernel.sessions import Session, Sessions
from swarmkernel.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

#: The user that everybody is while there are no accounts.
LOCAL_USER = "local"
USER_HEADER = "x-swarm-user_id"
MAX_USER_ID = 100


@attrs.frozen
class Identity:
    """Who a caller is proved to be; *token_id* is the login token that proved it, None if something else did."""

    user_id: str
    token_id: str | None = None


class UserData(Protocol):
    """A user's own choices. Offered as a service by the plugin that keeps them, so it may be absent."""

    async def settings(self, user_id: str) -> Mapping[str, Any]:
        """Effective settings by dotted lower-case id, such as ``fileformat.savemetadata``."""

    async def preset(self, user_id: str, title: str) -> Mapping[str, str] | None:
        """Parameter values of the preset with that *title* in any letter case, or None."""

    async def param_edits(self, user_id: str) -> Any | None:
        """The user's changes to how parameters are shown, as the client stored them, or None."""


class UserAdmin(Protocol):
    """What those who manage users do with somebody's data. Offered by the plugin that keeps it."""

    async def describe_settings(self, user_id: str, restricted: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings as ``GetUserSettings`` shows them, and those *restricted* ones whose values are given."""

    async def change_settings(self, user_id: str, wanted: Mapping[str, Any]) -> list[str]:
        """Change all of *wanted* or nothing; the keys left out. A ValueError's text names the key that is wrong."""


class Accounts(Protocol):
    """Offered by a plugin that knows real users, while they are required. Else everybody is the owner."""

    async def identify(self, headers: Mapping[str, str], peer: str) -> Identity | None:
        """Who these request headers (names in lower case) prove, or None. *peer* is the other end's address."""

    def admits(self, session: Session) -> bool:
        """Whether what *session* rests on still holds. Asked with each use, so it must be quick."""

    def may_act_as(self, user_id: str, other: str) -> bool:
        """Whether one user may open sessions of another."""


class Limits(Protocol):
    """What users' roles allow beyond permissions. Offered together with `Accounts`."""

    def of(self, user_id: str) -> Mapping[str, Any]:
        """Limits by the names that they have on the wire, such as ``max_outpath_depth``."""


async def caller(services: Services, headers: Mapping[str, str], peer: str) -> Identity | None:
    """Who acts where no session says so: by an account, or else the one user that there is; None is nobody."""
    accounts = services.find(Accounts)  # type: ignore[type-abstract]
    if accounts is not None:
        return await accounts.identify(headers, peer)
    if services.get(ServerSettings).trust_user_header and headers.get(USER_HEADER):
        return Identity(
            re.sub(r"[^\w-]", "", headers[USER_HEADER], flags=re.ASCII)[:MAX_USER_ID].lower() or "_"
        )
    return Identity(LOCAL_USER)


async def viewer(services: Services, connection: HTTPConnection) -> Session | None:
    """
    Who asks for something outside the API: the session that ``X-Session-ID`` names, or else the `caller`.

    A caller without a session gets one for the moment, with an empty id, so that permissions can be asked for.
    """
    headers = headers_of(connection.scope)
    if "x-session-id" in headers:
        return await services.get(Sessions).find(headers["x-session-id"])
    identity = await caller(services, headers, peer(connection.scope))
    if identity is None:
        return None
    now = time.time()
    return Session("", identity.user_id, peer(connection.scope), now, now, identity.token_id)
