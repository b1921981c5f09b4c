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
    Tell parts of `GetCurrentStatus`: any of ``status``, ``backend_status`` and ``supported_features``.

    ``status`` is about the calling session, the others about the server.

        @hookimpl(optionalhook=True)
        def basic_status(services):
            return {"supported_features": ["variation_seed"]}
    """
    return {}


@hookspec
def basic_new_session(services: Services, session: Session) -> Mapping[str, object]:
    """
    Add keys to the answer of `GetNewSession`, such as ``count_running``, or replace some.

        @hookimpl(optionalhook=True)
        def basic_new_session(services):
            return {"count_running": services.get(Workers).count}
    """
    return {}


@hookspec
def basic_interrupt(services: Services, session: Session, other_sessions: bool) -> None:
    """
    Interrupt the work of *session*, with *other_sessions* that of all its user's sessions.

        @hookimpl(optionalhook=True)
        def basic_interrupt(services, session, other_sessions):
            services.get(Jobs).interrupt(session.user_id if other_sessions else session)
    """


@hookspec
def basic_install(
    services: Services, choices: Mapping[str, Any]
) -> Iterable[tuple[str, AsyncIterator[Mapping[str, Any]]]]:
    """
    Give steps of the first-run installation: a title each, and frames for the client.

    *choices* are ``theme``, ``language``, ``installed_for``, ``backend`` (an id, or ``none``) and ``models`` (a tuple
    of ids). Called before anything is done: once without ``models``, and then for each of them with that one, where
    only steps with other titles than before count. Raise `RouteError` for a choice that cannot be; give nothing for
    what is not yours or is so already. A model for which nobody gives a step is refused.

    Frames are ``{"info": text}``, or ``{"progress": n, "total": n, "per_second": n}`` in bytes. A step that raises
    `RouteError` is only told if it is for a model, and else ends the installation. One that ended early may be begun
    again, and so may its steps.

        @hookimpl(optionalhook=True)
        def basic_install(services, choices):
            if "my_model" in choices["models"]:
                yield "My model", fetch_my_model()
    """
    return ()
