"""What plugins may know of users without knowing who keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

#: The user that everybody is while there are no accounts.
LOCAL_USER = "local"


class UserData(Protocol):
    """A user's own choices. Offered as a service by the plugin that keeps them, so it may be absent."""

    async def settings(self, user_id: str) -> Mapping[str, Any]:
        """Effective settings by dotted lower-case id, such as ``fileformat.savemetadata``."""

    async def preset(self, user_id: str, title: str) -> Mapping[str, str] | None:
        """Parameter values of the preset with that *title* in any letter case, or None."""

    async def param_edits(self, user_id: str) -> Any | None:
        """The user's changes to how parameters are shown, as the client stored them, or None."""


class Accounts(Protocol):
    """Offered by a plugin that knows real users. While nobody offers it, everybody is the owner."""

    async def identify(self, headers: Mapping[str, str], peer: str) -> str | None:
        """The user that these request headers prove, or None."""
