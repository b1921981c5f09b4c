"""What can go wrong, and the one JSON shape that it takes on the wire."""

from __future__ import annotations

from typing import ClassVar


class StartupError(Exception):
    """The server cannot start: settings, plugins or the store do not allow it."""


class PluginError(Exception):
    """A plugin cannot be used, or raised what would have ended the process."""


class StoreError(Exception):
    """The store could not read or write; nothing was half-written."""


class ConflictError(StoreError):
    """Somebody else changed the value since it was read."""


class KernelError(Exception):
    """A failure that the caller is told about. *status* is the HTTP status over plain HTTP."""

    status: ClassVar[int] = 400
    error_id: str | None = "internal_error"

    def body(self) -> dict[str, str]:
        """The JSON object that the client gets: ``error``, and ``error_id`` where there is one."""
        return {"error": str(self)} | ({"error_id": self.error_id} if self.error_id else {})


class BadRequestError(KernelError):
    """The request is not one that the API understands."""

    error_id = "basic_api"


class TooLargeError(BadRequestError):
    """A body, message or header is over its limit."""

    status = 413


class TooSlowError(BadRequestError):
    """The body did not arrive in time."""

    status = 408


class ForbiddenError(BadRequestError):
    """The Host or Origin of the request is not one of ours."""

    status = 403


class SetupRequiredError(KernelError):
    """Accounts are required, and nobody has made the first one yet."""

    status = 403
    error_id = "setup_required"


class BusyError(KernelError):
    """Too much arrives at the same time; the client may try again later."""

    status = 503
    error_id = "server_busy"


class InvalidSessionError(KernelError):
    """The session id is unknown or has ended; the client asks for a new one."""

    status = 401
    error_id = "invalid_session_id"


class UnknownRouteError(KernelError):
    """No working plugin has this route."""

    error_id = "bad_route"


class WrongMethodError(KernelError):
    """A plain call to a WebSocket route, or the other way round."""

    error_id = "bad_request_method"


class PermissionDeniedError(KernelError):
    """The session's user lacks the route's permission."""

    error_id = "bad_permissions"


class NoResultError(KernelError):
    """The handler returned nothing."""

    error_id = "no_result"


class StoppingError(KernelError):
    """The server is shutting down and takes no new work."""

    status = 503
    error_id = "shutting_down"


class StorageError(KernelError):
    """The store failed: a full disk, a lost database. The client may try again later."""

    error_id = "storage_failed"


class RouteError(KernelError):
    """
    A route says no: HTTP 200 with ``error``, or one such frame on a socket.

    Args:
        text: what was wrong, and what would be right.
        error_id: a stable id that clients may switch on.
    """

    status = 200

    def __init__(self, text: str, *, error_id: str | None = None) -> None:
        super().__init__(text)
        self.error_id = error_id
