"""The audit log: who did what to whom, in the order that it happened, with rows that cannot be changed unseen."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import attrs

from swarmkernel.errors import KernelError, RouteError
from swarmkernel.store import Collection, Store

if TYPE_CHECKING:
    from swarmkernel.routes import Call, Route

MAX_TEXT = 200
HEAD = "head"
#: Rows that are read together: those whose keys differ in the last two digits only.
BLOCK = 100
#: Not worth a row: whoever is turned away could otherwise push the others out.
TURNED_AWAY = "ratelimit"
MINUTE = 60.0


@attrs.frozen
class AuditEntry:
    """
    One deed.

    *time* is in Unix seconds; *action* is a route's name or a word of a command; *subject* says on what; *result* is
    ``ok``, the id of the error, or ``left`` if the client went before the end. *digest* is the SHA-256 of the row together with the digest of the row before it.
    """

    number: int
    time: float
    user_id: str
    impersonator: str | None
    address: str
    action: str
    subject: dict[str, str]
    result: str
    digest: str = ""

    def sealed(self, before: str) -> AuditEntry:
        """The row with the digest that it has after the row whose digest is *before*."""
        told = json.dumps([before, *attrs.astuple(attrs.evolve(self, digest=""))], sort_keys=True)
        return attrs.evolve(self, digest=hashlib.sha256(told.encode()).hexdigest())


@attrs.frozen
class Head:
    """The number and digest of the newest row, and the number of the oldest that is kept."""

    number: int = 0
    digest: str = ""
    oldest: int = 1


@attrs.define
class Audit:
    """The audit log. The oldest rows go when there are more than *keep*."""

    _store: Store
    _rows: Collection[AuditEntry]
    _heads: Collection[Head]
    _keep: int

    @classmethod
    def of(cls, store: Store, keep: int) -> Audit:
        """The log in *store*."""
        return cls(store, store.collection("audit", AuditEntry), store.collection("audit_head", Head), keep)

    async def record(
        self,
        action: str,
        *,
        user_id: str,
        address: str = "",
        impersonator: str | None = None,
        subject: Mapping[str, object] | None = None,
        result: str = "ok",
    ) -> None:
        """Write one row; StoreError if that fails. Texts of *subject* are cut to 200 characters."""
        kept = {key: _text(value) for key, value in (subject or {}).items()}
        async with self._store.transaction():
            head = await self._heads.get(HEAD) or Head()
            number = head.number + 1
            entry = AuditEntry(number, time.time(), user_id, impersonator, address, action, kept, result)
            entry = entry.sealed(head.digest)
            await self._rows.put(_key(number), entry)
            oldest = head.oldest
            if number - oldest >= self._keep:
                await self._rows.delete(_key(oldest))
                oldest += 1
            await self._heads.put(HEAD, Head(number, entry.digest, oldest))

    async def require(self) -> None:
        """StoreError if no row could be written now."""
        async with self._store.transaction():
            await self._heads.put(HEAD, await self._heads.get(HEAD) or Head())

    async def entries(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """The newest rows first, at most *limit*, all of them older than the number *before*."""
        head = await self._heads.get(HEAD) or Head()
        newest = head.number if before is None else min(head.number, before - 1)
        found: list[AuditEntry] = []
        for block in range(newest // BLOCK, head.oldest // BLOCK - 1, -1):
            rows = [row.value for row in await self._rows.items(_key(block * BLOCK)[:-2])]
            found += [entry for entry in reversed(rows) if entry.number <= newest]
            if len(found) >= limit:
                break
        return found[:limit]

    async def verify(self) -> int | None:
        """The number of the first kept row that is missing or not as it was written, or None."""
        head = await self._heads.get(HEAD) or Head()
        before: str | None = "" if head.oldest == 1 else None
        rows = {row.value.number: row.value for row in await self._rows.items()}
        for number in range(head.oldest, head.number + 1):
            entry = rows.get(number)
            if entry is None and number < (await self._heads.get(HEAD) or head).oldest:
                continue  # it went while we looked
            if entry is None or (before is not None and entry != entry.sealed(before)):
                return number
            before = entry.digest
        return None if before in {None, head.digest} else head.number


def _key(number: int) -> str:
    return f"{number:012d}"


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    with suppress(UnicodeEncodeError):
        text.encode()
        return text[:MAX_TEXT]
    return repr(text)[:MAX_TEXT]


@attrs.define
class Pace:
    """
    How often each user may do what is kept here: *limit* times a minute.

    Without it, whoever may do little could fill the log until the deeds of others fall out of it.
    """

    limit: int
    _began: float = attrs.field(default=0.0, init=False)
    _counts: Counter[str] = attrs.field(factory=Counter, init=False)

    def take(self, user_id: str) -> None:
        """Count a deed, or RouteError."""
        if time.monotonic() - self._began > MINUTE:
            self._began = time.monotonic()
            self._counts.clear()
        if self._counts[user_id] >= self.limit:
            raise RouteError(
                f"This can be done {self.limit} times a minute; try again later.", error_id=TURNED_AWAY
            )
        self._counts[user_id] += 1


async def audited(route: Route, call: Call, answer: Awaitable[object]) -> object:
    """The answer of a call, which is in the audit log when it is given."""
    result = "internal_error"
    try:
        found = await answer
        result = _result(found)
    except KernelError as exc:
        result = exc.error_id or "error"
        raise
    finally:
        await _record(route, call, result)
    return found


async def audited_frames(route: Route, call: Call, frames: AsyncIterator[object]) -> AsyncIterator[object]:
    """The frames of a WebSocket; at their end, or the client's, the call is in the audit log."""
    await require_log(route, call)
    failure, result = "ok", "left"
    try:
        async with aclosing(frames):  # type: ignore[type-var]
            async for frame in frames:
                failure = _result(frame) if failure == "ok" else failure
                yield frame
        result = failure
    except KernelError as exc:
        result = exc.error_id or "error"
        raise
    finally:
        await _record(route, call, result)


def _result(answer: object) -> str:
    told = answer if isinstance(answer, Mapping) else {}
    return str(told.get("error_id") or "error") if "error" in told or "error_id" in told else "ok"


async def require_log(route: Route, call: Call) -> None:
    """StoreError if what the call does could not be written down now."""
    # Not for strangers, whose attempts would then cost a write each before their number is bounded.
    if route.audit is not None and call.find_session() is not None:
        await call.get(Audit).require()


async def _record(route: Route, call: Call, result: str) -> None:
    if result == TURNED_AWAY:
        return
    session = call.find_session()
    await call.get(Audit).record(
        route.name,
        user_id=session.user_id if session else "",
        address=call.address,
        impersonator=session.impersonator if session else None,
        subject={key: call.body[key] for key in route.audit or () if key in call.body},
        result=result,
    )
