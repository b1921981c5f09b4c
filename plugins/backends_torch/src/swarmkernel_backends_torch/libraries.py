"""The libraries' own chatter, which has no place in a server's log."""

from __future__ import annotations

import diffusers
import transformers


def silence() -> None:
    """No progress bars on standard error, and only errors logged: what goes wrong, this package says itself."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
