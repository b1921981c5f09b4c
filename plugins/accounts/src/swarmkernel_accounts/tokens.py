"""Login tokens: what a browser's cookie or a bot's header proves a user by."""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from swarmkernel import Collection, Store, StoreError
from swarmkernel_accounts.changes import Changes, OnCommit
from swarmkernel_accounts.settings import AccountsSettings

log = logging.getLogger(__name__)

MIN_TEXT, MAX_TEXT = 10, 1000
MAX_NOTE = 500
DAY = 24 * 3600
#: The stored time of last use may lag behind by this much, so that a busy token does not write on each use.
TOUCH_SECONDS = 3600


@attrs.frozen
class Token:
    """
    What is kept of a token.

    *secret* is the SHA-256 of the secret part: 128 random bits need no slower function. *user_agent* is the client's,
    or the reason that the user gave for a token that *is_login* is false for. Times are Unix seconds.
    """

    id: str
    user_id: str
    address: str
    user_agent: str
    created: float
    last_active: float
    secret: str = attrs.field(repr=False)
    is_login: bool = True


@attrs.define
class Tokens:
    """All tokens, in memory and in the store."""

    _rows: Collection[Token]
    _changes: Changes
    _settings: AccountsSettings
    _now: Callable[[], float] = time.time
    _by_user: dict[str, dict[str, Token]] = attrs.field(factory=dict, init=False)
    _used: set[tuple[str, str]] = attrs.field(factory=set, init=False)

    @classmethod
    def of(cls, store: Store, changes: Changes, settings: AccountsSettings) -> "Tokens":
        """Keep the tokens in *store*; *changes* says when to read them, first of all at the start."""
        tokens = cls(store.collection("accounts_tokens", Token), changes, settings)
        changes.keep(tokens.reload)
        return tokens

    async def create(
        self, user_id: str, *, address: str, user_agent: str, is_login: bool
    ) -> tuple[Token, str]:
        """Make a token, and its text, which nobody can ask for again. The user's least used ones give way."""
        now, secret = self._now(), secrets.token_hex(16)
        token = Token(
            id=secrets.token_hex(16),
            user_id=user_id,
            address=_note(address),
            user_agent=_note(user_agent),
            created=now,
            last_active=now,
            secret=_digest(secret),
            is_login=is_login,
        )
        async with self._changes.writing() as on_commit:
            await self._rows.put(_key(token), token)
            on_commit(lambda: self._remember(token))
            others = sorted(self.of_user(user_id), key=lambda t: t.last_active)
            await self._delete(others[: max(len(others) + 1 - self._settings.tokens_per_user, 0)], on_commit)
        return token, f"{user_id.encode().hex()}.{token.id}.{secret}"

    async def verify(self, text: str) -> Token | None:
        """The token that *text* is of, which counts as a use of it; None if it is of none, or of one that has ended."""
        parts = _read(text)
        if parts is None:
            return None
        user_id, token_id, secret = parts
        if not self.exists(user_id, token_id):
            await self._changes.refresh()  # another process may have made it this very moment
        token = self._by_user.get(user_id, {}).get(token_id)
        if token is None or self._is_over(token):
            return None
        if not hmac.compare_digest(_digest(secret), token.secret):
            log.warning("a wrong secret came with token %s of user %s", token.id, user_id)
            return None
        return await self._touch(token)

    def exists(self, user_id: str, token_id: str) -> bool:
        """Whether the user has that token and it has not ended."""
        token = self._by_user.get(user_id, {}).get(token_id)
        return token is not None and not self._is_over(token)

    def use(self, user_id: str, token_id: str) -> bool:
        """Whether the token exists; if so its session is in use, and so is the token, as `purge` will find."""
        is_there = self.exists(user_id, token_id)
        if is_there:
            self._used.add((user_id, token_id))
        return is_there

    def of_user(self, user_id: str) -> list[Token]:
        """The user's tokens, oldest first."""
        return sorted(self._by_user.get(user_id, {}).values(), key=lambda t: t.created)

    async def revoke(self, user_id: str, token_id: str) -> bool:
        """End a token; False if the user has no such token."""
        if token_id not in self._by_user.get(user_id, {}):
            return False
        await self._end(user_id, lambda t: t.id == token_id)
        return True

    async def revoke_all(self, user_id: str, *, but: str | None = None) -> None:
        """End the user's tokens, all but the one of that id."""
        await self._end(user_id, lambda t: t.id != but)

    async def purge(self) -> None:
        """Forget the tokens that ended for want of use, and note which of them were used through their sessions."""
        used, self._used = self._used, set()
        for user_id, token_id in used:
            if self.exists(user_id, token_id):
                await self._touch(self._by_user[user_id][token_id])
        for user_id in list(self._by_user):
            if any(map(self._is_over, self.of_user(user_id))):
                await self._end(user_id, self._is_over)

    async def reload(self) -> None:
        """Read all tokens from the store."""
        rows = await self._rows.items()
        self._by_user = {}
        for row in rows:
            self._remember(row.value)

    async def _end(self, user_id: str, match: Callable[[Token], bool]) -> None:
        async with self._changes.writing() as on_commit:
            await self._delete(list(filter(match, self.of_user(user_id))), on_commit)

    async def _delete(self, tokens: Sequence[Token], on_commit: OnCommit) -> None:
        for token in tokens:
            await self._rows.delete(_key(token))
            on_commit(partial(self._forget, token))

    def _remember(self, token: Token) -> None:
        self._by_user.setdefault(token.user_id, {})[token.id] = token

    def _forget(self, token: Token) -> None:
        mine = self._by_user.get(token.user_id, {})
        mine.pop(token.id, None)
        if not mine:
            self._by_user.pop(token.user_id, None)

    def _is_over(self, token: Token) -> bool:
        days = self._settings.token_days if token.is_login else self._settings.made_token_days
        return token.last_active < self._now() - days * DAY

    async def _touch(self, token: Token) -> Token:
        now = self._now()
        if now - token.last_active < TOUCH_SECONDS:
            return token
        used = attrs.evolve(token, last_active=now)
        self._remember(used)
        try:
            await self._rows.update(_key(token), lambda row: row and attrs.evolve(row, last_active=now))
        except StoreError as exc:
            log.warning("the use of a token was not stored: %s", exc)
        return used


def _note(text: str) -> str:
    """Keep *text* on one line, cut."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_NOTE]).strip()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(token: Token) -> str:
    return f"{token.user_id}/{token.id}"


def _read(text: str) -> tuple[str, str, str] | None:
    """User id, token id and secret; None for what is no token's text."""
    parts = text.split(".")
    if not MIN_TEXT <= len(text) <= MAX_TEXT or len(parts) != 3:
        return None
    try:
        return bytes.fromhex(parts[0]).decode(), parts[1], parts[2]
    except ValueError:
        return None
