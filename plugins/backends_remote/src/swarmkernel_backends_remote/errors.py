"""What can go wrong with another server."""

from swarmkernel_backend_api import BackendError, WorkerLostError


class PeerLostError(WorkerLostError):
    """The other server is out of reach, or broke off: the same work may go on elsewhere, or there when it is back."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "remote_lost")


class PeerBusyError(PeerLostError):
    """The other server has no place for the work now; it will have one later."""


class PeerError(BackendError):
    """The other server refused, or gave an answer that is none."""

    def __init__(self, text: str, error_id: str | None = "remote_failed") -> None:
        super().__init__(text, error_id)
