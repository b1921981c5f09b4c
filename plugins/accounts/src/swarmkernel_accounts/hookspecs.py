"""
The hooks that this package adds.

Since this package may be absent, implement them with ``@hookimpl(optionalhook=True)``.
"""

from collections.abc import Awaitable

from swarmkernel import Services, hookspec

__all__ = ["accounts_forget"]


@hookspec
def accounts_forget(services: Services, user_id: str) -> Awaitable[None] | None:
    """
    Deletes what you keep for a user who was deleted, or puts it where nobody of the same name can reach it. What you give back is awaited before
    anybody can get that name again. It may be called again for the same user, after a crash say.
    """
