"""The routes about logging in, passwords and login tokens."""

import logging
from collections.abc import Mapping

from swarmkernel import (
    PUBLIC,
    Call,
    Route,
    RouteError,
    ServerSettings,
    SetupRequiredError,
    StoreError,
    is_loopback,
)
from swarmkernel_accounts import cookies
from swarmkernel_accounts.attempts import Attempts
from swarmkernel_accounts.directory import Directory
from swarmkernel_accounts.first_owner import FirstOwner
from swarmkernel_accounts.logins import Logins, NameTakenError
from swarmkernel_accounts.names import clean_name
from swarmkernel_accounts.passwords import MAX_LENGTH, MIN_LENGTH, Passwords
from swarmkernel_accounts.permissions import EDIT_SETTINGS, FUNDAMENTAL, READ_SETTINGS
from swarmkernel_accounts.roles import OWNER
from swarmkernel_accounts.settings import AccountsSettings
from swarmkernel_accounts.tokens import MAX_NOTE, Token, Tokens
from swarmkernel_accounts.values import AccountError

log = logging.getLogger(__name__)

MIN_NAME, MAX_NAME = 3, 100


async def login(call: Call, username: str, password: str) -> Mapping[str, str]:
    """
    Log in: the answer sets the cookie `swarm_token`, with which `GetNewSession` opens a session.

    Over HTTPS it sets `__Host-swarm_token` too, which no other site of the domain can set; where both come back, that counts.

    *password* is plain, or the lower-case hexadecimal SHA-256 of `swarmclientpw:<username>:<password>`. Failures are
    `invalid_login`, whatever was wrong with either; `ratelimit`; `internal_error` if the server cannot write.
    """
    name, attempts = clean_name(username), call.get(Attempts)
    _require_owner(call)
    if not call.get(AccountsSettings).allow_login or not _fit(name, password):
        attempts.stray(call.client)
        raise _invalid_login()
    attempts.begin(call.client, name)
    attempts.guess(name)
    try:
        if not await _logins(call).proves(name, password):
            raise _invalid_login()
        attempts.right(name)
        text = await _new_token(call, name, call.headers.get("user-agent", ""), is_login=True)
    except StoreError:
        log.exception("a login could not be kept")
        raise _failed("The server could not log you in; its log says why.", "internal_error") from None
    call.reply_headers.extend(cookies.given(text, secure=call.secure))
    return {"success": "true"}


async def logout(call: Call) -> Mapping[str, str]:
    """Log out: the login token that this request carries, and the session's own, end with all of their sessions."""
    _require_accounts(call)
    token, session, tokens = await _presented(call), call.session, call.get(Tokens)
    if token is None:
        raise RouteError("This request carries no login token, so there is nothing to log out from.")
    await tokens.revoke(token.user_id, token.id)
    if session.token_id is not None:
        await tokens.revoke(session.impersonator or session.user_id, session.token_id)
    call.reply_headers.extend(cookies.expired(secure=call.secure))
    return {"success": "true"}


async def register_basic(
    call: Call, username: str, password: str, setup_token: str | None = None
) -> Mapping[str, str]:
    """
    Register a user, who logs in afterwards.

    With the *setup_token* that the server printed on its console, this makes the first owner. Failures are
    `registration_failed` where that is not allowed, `invalid_input` for lengths, `ratelimit`, and `username_exists`
    for a name that is taken, reserved, or does not begin with a letter.
    """
    name, settings, attempts = clean_name(username), call.get(AccountsSettings), call.get(Attempts)
    if not setup_token:
        _require_owner(call)
    if not settings.required or not (setup_token or settings.allow_registration):
        attempts.stray(call.client)
        raise _registration_failed()
    if not _fit(name, password):
        attempts.stray(call.client)
        text = f"A name has {MIN_NAME} to {MAX_NAME} characters, a password {MIN_LENGTH} to {MAX_LENGTH}."
        raise _failed(text, "invalid_input")
    attempts.begin(call.client, name)
    if setup_token:
        await _register_owner(call, name, password, setup_token)
    else:
        await _register(call, name, password, settings.default_role)
    return {"success": "true"}


async def change_password(call: Call, oldPassword: str, newPassword: str) -> Mapping[str, bool]:  # noqa: N803
    """
    Choose another password; a user who has none yet may send any *oldPassword*.

    The user's other login tokens end, and the sessions made with them.
    """
    user_id = call.session.user_id
    _require_self(call)
    if not call.get(AccountsSettings).required and not is_loopback(call.get(ServerSettings).host):
        raise RouteError(
            "Without accounts, passwords can be set only while the server listens to this machine alone."
        )
    if not MIN_LENGTH <= len(newPassword) <= MAX_LENGTH:
        raise RouteError(f"The new password needs {MIN_LENGTH} to {MAX_LENGTH} characters.")
    call.get(Attempts).change(user_id)
    try:
        await _logins(call).change(user_id, oldPassword, newPassword)
    except AccountError as exc:
        raise RouteError(str(exc)) from None
    await call.get(Tokens).revoke_all(user_id, but=call.session.token_id)
    return {"success": True}


async def list_my_auth_tokens(call: Call) -> Mapping[str, object]:
    """
    List the user's login `tokens`, oldest first.

    Each has `id`, `created` and `last_active` (Unix seconds), `user_agent` (or the reason it was made for),
    `origin_address`, and `is_current`: whether this request carries it.
    """
    _require_accounts(call)
    current = await _presented(call)
    return {
        "tokens": [
            {
                "id": token.id,
                "created": int(token.created),
                "last_active": int(token.last_active),
                "user_agent": token.user_agent or "unknown",
                "origin_address": token.address or "unknown",
                "is_current": current is not None and current.id == token.id,
            }
            for token in call.get(Tokens).of_user(call.session.user_id)
        ]
    }


async def create_auth_token(call: Call, reason: str) -> Mapping[str, str]:
    """
    Make a login `token` for a program, *reason* saying which; the answer is the only place that ever shows it.

    Send it as `Authorization: Bearer <token>`, or as the cookie `swarm_token`.
    """
    _require_accounts(call)
    _require_self(call)
    if not reason.strip() or len(reason) > MAX_NOTE:
        raise RouteError(f"Give a reason of 1 to {MAX_NOTE} characters.")
    if call.session.user_id not in call.get(Directory).users:
        raise RouteError("You have no account that a token could be of; ChangePassword makes one for you.")
    return {"token": await _new_token(call, call.session.user_id, reason, is_login=False)}


async def revoke_my_auth_token(call: Call, tokenId: str) -> Mapping[str, bool]:  # noqa: N803
    """End one of the user's own login tokens, and the sessions made with it."""
    _require_accounts(call)
    if not await call.get(Tokens).revoke(call.session.user_id, tokenId):
        raise RouteError("You have no login token with this id; ListMyAuthTokens lists those that you have.")
    return {"success": True}


async def _register(call: Call, name: str, password: str, role: str) -> None:
    try:
        await _logins(call).register(name, password, role)
    except NameTakenError as exc:
        raise _failed(str(exc), "username_exists") from None
    except AccountError as exc:
        log.warning("user %s could not be registered: %s", name, exc)
        raise _registration_failed() from None


async def _register_owner(call: Call, name: str, password: str, setup_token: str) -> None:
    attempts, first_owner = call.get(Attempts), call.get(FirstOwner)
    attempts.guess(name)
    async with first_owner.turn:
        if not first_owner.accepts(setup_token):
            raise _registration_failed()
        await _register(call, name, password, OWNER)
    attempts.right(name)


async def _new_token(call: Call, user_id: str, note: str, *, is_login: bool) -> str:
    _, text = await call.get(Tokens).create(user_id, address=call.address, user_agent=note, is_login=is_login)
    return text


async def _presented(call: Call) -> Token | None:
    return await call.get(Tokens).verify(cookies.presented(call.headers) or "")


def _logins(call: Call) -> Logins:
    return Logins(call.get(Directory), call.get(Passwords))


def _fit(name: str, password: str) -> bool:
    return MIN_NAME <= len(name) <= MAX_NAME and MIN_LENGTH <= len(password) <= MAX_LENGTH


def _require_accounts(call: Call) -> None:
    if not call.get(AccountsSettings).required:
        raise RouteError("This server has no accounts: required in its table [accounts] is false.")


def _require_owner(call: Call) -> None:
    """Let nobody in before there is an owner; who has the setup token becomes the first."""
    if call.get(AccountsSettings).required and call.get(FirstOwner).is_wanted:
        call.get(Attempts).stray(call.client)
        raise SetupRequiredError("This server has no owner yet; its console says how to make one.")


def _require_self(call: Call) -> None:
    """Refuse who acts as another user: what they made would outlast their right to."""
    if call.session.impersonator is not None:
        raise RouteError("You act as another user, so you can neither set a password nor make a token.")


def _failed(text: str, error_id: str) -> RouteError:
    return RouteError(text, error_id=error_id)


def _invalid_login() -> RouteError:
    return _failed("The name or the password is wrong.", "invalid_login")


def _registration_failed() -> RouteError:
    return _failed("Registration is not possible here, or not this way.", "registration_failed")


ROUTES = (
    Route("Login", login, permission=PUBLIC, audit=("username",)),
    Route("Logout", logout, permission=FUNDAMENTAL, touches_session=True, audit=()),
    Route("RegisterBasic", register_basic, permission=PUBLIC, audit=("username",)),
    Route("ChangePassword", change_password, permission=EDIT_SETTINGS, touches_session=True, audit=()),
    Route("ListMyAuthTokens", list_my_auth_tokens, permission=READ_SETTINGS),
    Route(
        "CreateAuthToken",
        create_auth_token,
        permission=EDIT_SETTINGS,
        touches_session=True,
        audit=("reason",),
    ),
    Route(
        "RevokeMyAuthToken",
        revoke_my_auth_token,
        permission=EDIT_SETTINGS,
        touches_session=True,
        audit=("tokenId",),
    ),
)
