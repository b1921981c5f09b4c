"""What can go wrong before and while a picture is made; every text is for the user."""

from __future__ import annotations


class T2IError(Exception):
    """A generation cannot go on. `error_id` is stable, for clients that switch on it."""

    error_id = "generation_failed"

    def __init__(self, text: str, error_id: str | None = None) -> None:
        super().__init__(text)
        if error_id is not None:
            self.error_id = error_id


class ParamError(T2IError):
    """A parameter of a request has a value that it cannot have."""

    error_id = "invalid_parameter"


class LimitError(T2IError):
    """A request asks for more than this server gives."""

    error_id = "limit_exceeded"


class NoBackendError(T2IError):
    """No backend can ever do this job."""

    error_id = "no_backend"


class QueueTimeoutError(T2IError):
    """A job waited longer than it may."""

    error_id = "queue_timeout"


class StalledError(T2IError):
    """A backend showed no progress for too long."""

    error_id = "stalled"


class InterruptedJobError(T2IError):
    """The user stopped the job."""

    error_id = "interrupted"


class SessionEndedError(T2IError):
    """The session that asked has ended meanwhile."""

    error_id = "invalid_session_id"


class ShuttingDownError(T2IError):
    """The server has been told to stop and begins nothing new."""

    error_id = "shutting_down"
