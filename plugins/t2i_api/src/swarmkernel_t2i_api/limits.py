"""How far a user may go: what their roles allow, within what the operator allows everybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from swarmkernel import Limits, Services
from swarmkernel_t2i_api.outputs.paths import MAX_DEPTH
from swarmkernel_t2i_api.settings import T2ISettings


@attrs.frozen
class UserLimits:
    """The limits of each user, as of now: roles change while the server runs. Without accounts nobody has any."""

    services: Services
    settings: T2ISettings

    def simultaneous(self, user_id: str) -> int:
        """How many pictures of a user may be in the making at once, over all their sessions; one at least."""
        most = self.settings.max_simultaneous
        return max(1, min(most, int(self._of(user_id).get("max_t2i_simultaneous", most))))

    def path_folders(self, user_id: str) -> int:
        """How many folders a user's template for names may make."""
        return int(self._of(user_id).get("max_outpath_depth", MAX_DEPTH))

    def unsafe_paths(self, user_id: str) -> bool:
        """Whether a user's template may have what cleaning takes out; see `PathRules`."""
        return bool(self._of(user_id).get("allow_unsafe_outpaths"))

    def _of(self, user_id: str) -> Mapping[str, Any]:
        limits: Limits | None = self.services.find(Limits)  # type: ignore[type-abstract]
        return {} if limits is None else limits.of(user_id)
