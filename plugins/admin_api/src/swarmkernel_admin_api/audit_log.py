"""Reading the audit log: a bounded part of it at a time."""

from collections.abc import Callable, Sequence

import attrs

from swarmkernel import Audit, AuditEntry

CHUNK = 250
#: One call looks at this many chunks of rows at most, however few rows are wanted.
CHUNKS = 8


@attrs.frozen
class Page:
    """
    Rows that were found, newest first.

    *intact* is whether all rows that were looked at are as they were written, with none missing between them. *next*
    is the number to go on before, 0 where nothing older is left.
    """

    found: Sequence[AuditEntry]
    intact: bool
    next: int


async def read_page(audit: Audit, before: int, limit: int, wanted: Callable[[AuditEntry], bool]) -> Page:
    """Look for up to *limit* rows that are *wanted* and older than the number *before*, 0 for the newest ones."""
    found: list[AuditEntry] = []
    intact = True
    for _ in range(CHUNKS):
        rows = await audit.entries(before=before or None, limit=CHUNK + 1)
        intact = intact and chained(rows)
        looked = rows[:CHUNK]  # the other one is there to check the last of these
        found += filter(wanted, looked)
        before = looked[-1].number if looked else 0
        if before <= 1 or len(found) >= limit:
            break
    if len(found) > limit:
        before = found[limit - 1].number
    return Page(found[:limit], intact, before if before > 1 else 0)


def chained(rows: Sequence[AuditEntry]) -> bool:
    """Whether each of *rows*, newest first, was written after the next of them and has not changed since."""
    return all(_follows(row, older) for row, older in zip(rows, [*rows[1:], None], strict=False))


def _follows(row: AuditEntry, older: AuditEntry | None) -> bool:
    if older is None:
        return row.number > 1 or row == row.sealed("")
    return row == row.sealed(older.digest)
