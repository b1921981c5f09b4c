"""
The hooks that this package adds.

They are called while a request waits, so be quick and do not block. An implementation that raises is logged and left
out. Since this package may be absent, implement them with ``@hookimpl(optionalhook=True)``.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from swarmkernel import Services, Session, hookspec

__all__ = ["basic_install", "basic_interrupt", "basic_new_session", "basic_status"]


@hookspec
def basic_status(services: Services, session: Session) -> Mapping[str, object]:
    """
    Tells parts of `GetCurrentStatus`: any of `status` (counters of the calling session), `backend_status` and
    `supported_features`. The features of all plugins are joined. Of any other key that two plugins tell, the one that loads later wins;
    require the other one's distribution to be that one.
    """
    return {}


@hookspec
def basic_new_session(services: Services, session: Session) -> Mapping[str, object]:
    """Adds keys to the answer of `GetNewSession`, or replaces some."""
    return {}


@hookspec
def basic_interrupt(services: Services, session: Session, other_sessions: bool) -> None:
    """Interrupts the work of a session, or with `other_sessions` that of all sessions of its user. The work itself ends later."""


@hookspec
def basic_install(
    services: Services, choices: Mapping[str, Any]
) -> Iterable[tuple[str, AsyncIterator[Mapping[str, Any]]]]:
    """
    Gives steps of the first-run installation (`InstallConfirmWS`): a title each, and an async iterator of frames that the
    client gets, `{"info": text}` or `{"progress": n, "total": n, "per_second": n}` in bytes. `choices` are `theme`,
    `language`, `installed_for`, `backend` (an id, or `none`) and `models` (a tuple of ids).

    It is called before anything is done: once without models, and then for each of them with that one, where only steps with
    other titles than before count. Raise `RouteError` for a choice that cannot be, and give nothing for what is not yours or
    is so already; a model for which nobody gives a step is refused. A step that raises `RouteError` is only told to the client
    if it is for a model, and else ends the installation. One that ended early may be begun again, so a step must bear being
    done twice.
    """
    return ()
