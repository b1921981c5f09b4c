"""Passwords: what clients send for one, how it is kept, and work that tells nothing about who exists."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import attrs

from swarmkernel import RouteError
from swarmkernel_accounts.values import AccountError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

log = logging.getLogger(__name__)
T = TypeVar("T")

MIN_LENGTH, MAX_LENGTH = 8, 500
#: Of argon2id: 19 MiB, two passes, one lane.
MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1
ARGON2 = "$argon2"
V1 = "swarmpw_v1:"
V1_ITERATIONS = 10_000
#: What a browser without cryptography sends before the text that it should have hashed.
MARKER = "__swarmdoprehash:"
CLIENT = "swarmclientpw:"
PREHASHED = re.compile("[0-9a-f]{64}")


class PasswordError(AccountError):
    """The text cannot be a password; the message says what would be right."""


class BusyError(RouteError):
    """More passwords wait to be hashed than the server takes on."""

    def __init__(self) -> None:
        super().__init__("The server is busy with other logins. Try again in a moment.", error_id="ratelimit")


@attrs.frozen
class Verdict:
    """Whether a password is right, and the hash to store instead where the stored one is of an older kind."""

    ok: bool
    rehash: str | None = attrs.field(default=None, repr=False)


@attrs.define(eq=False)
class Passwords:
    """Hashes and verifies passwords in *threads* threads; at most *queue* calls wait for one."""

    threads: int = 2
    queue: int = 20
    _pool: ThreadPoolExecutor = attrs.field(init=False)
    _room: threading.BoundedSemaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="hash")
        self._room = threading.BoundedSemaphore(self.threads + self.queue)

    async def hash(self, user_id: str, given: str) -> str:
        """What to store for a new password; PasswordError if it is too short or too long."""
        if not MIN_LENGTH <= len(given) <= MAX_LENGTH:
            raise PasswordError(f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters.")
        return await self._run(lambda: _hasher().hash(canonical(user_id, given)))

    async def verify(self, user_id: str, given: str, stored: str | None) -> Verdict:
        """
        Whether *given* is the password that *stored* was made of; never, if that is None or empty.

        The work is the same for every kind of *stored*, so its time does not tell whether there is such a user.
        """
        return await self._run(lambda: _verify(user_id, given, stored or ""))

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._room.acquire(blocking=False):
            raise BusyError
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)


def is_hash(text: str) -> bool:
    """Whether *text* is a hash of a kind that passwords can be verified against."""
    return text.startswith((f"{ARGON2}id$", V1)) and (text.startswith(ARGON2) or all(_read_v1(text)))


def canonical(user_id: str, given: str) -> str:
    """The one form of a password, whichever of three its client sent: plain, hashed, or marked to be hashed."""
    if PREHASHED.fullmatch(given):
        return given
    if not given.startswith(MARKER):
        return _sha256(f"{CLIENT}{user_id}:{given}")
    source = given.removeprefix(MARKER)
    name, colon, plain = source.removeprefix(CLIENT).partition(":")
    return _sha256(f"{CLIENT}{name.lower()}:{plain}" if source.startswith(CLIENT) and colon else source)


def _as_sent(given: str) -> str:
    """The form that older hashes were made of: what the client sent, hashed only where it was marked to be."""
    return _sha256(given.removeprefix(MARKER)) if given.startswith(MARKER) else given


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # noqa: PLC0415  # loads a shared library, which a start need not wait for

    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


def _verify(user_id: str, given: str, stored: str) -> Verdict:
    """Two runs of the old function and one of the new, whatever is stored; one more to renew a weaker argon2."""
    form, hasher = canonical(user_id, given), _hasher()
    old = _matches_v1(user_id, (_as_sent(given), form), stored)
    if not stored.startswith(ARGON2):
        fresh = hasher.hash(form)
        return Verdict(old, fresh if old else None)
    if not _matches_argon2(hasher, form, stored):
        return Verdict(ok=False)
    return Verdict(ok=True, rehash=hasher.hash(form) if hasher.check_needs_rehash(stored) else None)


def _matches_argon2(hasher: PasswordHasher, form: str, stored: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError  # noqa: PLC0415

    try:
        return hasher.verify(stored, form)
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHashError) as exc:
        log.error("a stored password cannot be verified: %s", exc)  # noqa: TRY400  # the trace may show the hash
        return False


def _matches_v1(user_id: str, forms: tuple[str, str], stored: str) -> bool:
    salt, wanted = _read_v1(stored)
    made = [_v1(user_id, form, salt) for form in forms]  # both, whether or not the first one matches
    return any(hmac.compare_digest(each, wanted) for each in made)


def _v1(user_id: str, form: str, salt: bytes) -> bytes:
    source = f"*SwarmHashedPw:{user_id}:{form}*".encode("utf-8", "surrogatepass")
    return hashlib.pbkdf2_hmac("sha256", source, salt, V1_ITERATIONS)


def _read_v1(stored: str) -> tuple[bytes, bytes]:
    """Salt and hash; for what is no such hash, a hash that nothing matches."""
    salt, _, wanted = stored.removeprefix(V1).partition(":")
    try:
        return base64.b64decode(salt, validate=True), base64.b64decode(wanted, validate=True)
    except (binascii.Error, ValueError):
        return b"", b""
