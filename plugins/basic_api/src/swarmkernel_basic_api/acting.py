"""Whom a new session is for, and who really acts in it."""

import attrs

from swarmkernel import Accounts, Audit, Call, Identity, RouteError, caller


@attrs.frozen
class Actor:
    """The user of a session, the login token that it rests on, and who impersonates that user, if anybody does."""

    user_id: str
    token_id: str | None = None
    impersonator: str | None = None


async def actor_of(call: Call, wanted: str | None) -> Actor:
    """Who calls, or the user *wanted* if the caller may act as that one; RouteError otherwise."""
    identity = await caller(call.services, call.headers, call.address.partition(" ")[0])
    if identity is None:
        raise RouteError("You are not logged in.", error_id="not_logged_in")
    target = (wanted or "").strip().lower()
    if target in {"", identity.user_id}:
        return Actor(identity.user_id, identity.token_id)
    await _impersonate(call, identity, target)
    return Actor(target, identity.token_id, identity.user_id)


async def _impersonate(call: Call, identity: Identity, target: str) -> None:
    """Let the caller act as *target* or raise; both are in the audit log where there are accounts."""
    accounts = call.find(Accounts)  # type: ignore[type-abstract]
    error_id = "bad_impersonate"
    allowed = accounts is not None and accounts.may_act_as(identity.user_id, target)
    if accounts is not None:
        await call.get(Audit).record(
            "Impersonate",
            user_id=identity.user_id,
            address=call.address,
            subject={"user": target},
            result="ok" if allowed else error_id,
        )
    if not allowed:
        raise RouteError("You may not act as that user.", error_id=error_id)
