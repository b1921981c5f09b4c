"""
The hooks that this package adds.

They are called while a request waits, so be quick and do not block. An implementation that raises is logged and left
out. Since this package may be absent, implement them with ``@hookimpl(optionalhook=True)``.
"""

from collections.abc import Mapping

from swarmkernel import Services, Session, hookspec

__all__ = ["basic_interrupt", "basic_new_session", "basic_status"]


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
