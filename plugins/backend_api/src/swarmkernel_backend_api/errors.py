"""What can go wrong with a backend."""


class BackendError(Exception):
    """A backend said no, with a text that a user may read.

    Raised inside a backend it travels to the caller of ``slot.invoke`` as it is.
    """

    def __init__(self, text: str, error_id: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.error_id = error_id


class NotConfiguredError(BackendError):
    """Raised by a backend's ``start`` when a setting it cannot do without is empty: the backend shows as disabled."""


class WorkerLostError(BackendError):
    """The process (or object) that did the work is gone; ``may_retry`` says whether the same work may be tried again."""

    def __init__(self, text: str, error_id: str = "worker_lost", *, may_retry: bool = True) -> None:
        super().__init__(text, error_id)
        self.may_retry = may_retry


class SettingsError(BackendError):
    """A settings value that its type does not accept; the text names the setting."""


class UnknownBackendError(BackendError):
    """No backend has this id."""
