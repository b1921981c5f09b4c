"""Who is acting, where no session says so."""

from collections.abc import Mapping

from swarmkernel import LOCAL_USER, Accounts, Services, Sessions
from swarmkernel_basic_api.clean import clean_user_id
from swarmkernel_basic_api.config import BasicSettings

USER_HEADER = "x-swarm-user_id"


async def acting_user(services: Services, headers: Mapping[str, str], peer: str) -> str | None:
    """The user that these headers (lower-case names) stand for; None is nobody."""
    accounts = services.find(Accounts)  # type: ignore[type-abstract]
    if accounts is not None:
        return await accounts.identify(headers, peer)
    if services.get(BasicSettings).trust_user_header and headers.get(USER_HEADER):
        return clean_user_id(headers[USER_HEADER])
    return LOCAL_USER


async def viewing_user(services: Services, headers: Mapping[str, str], peer: str) -> str | None:
    """The user that asks for a file: by session id in a header, or else as in `acting_user`."""
    if "x-session-id" in headers:
        session = await services.get(Sessions).find(headers["x-session-id"])
        return session.user_id if session else None
    return await acting_user(services, headers, peer)
