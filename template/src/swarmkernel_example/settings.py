"""The form of the backend type: each attribute is a field of it."""

from typing import Literal

import attrs

from swarmkernel_backend_api import setting


@attrs.frozen
class ExampleSettings:
    """What can be set for each backend. A Literal is a dropdown; a secret never leaves the server."""

    pattern: Literal["stripes", "squares"] = setting("stripes", description="What to paint.")
    width: int = setting(16, description="How wide a stripe or square is, in pixels.")
    api_key: str = setting("", title="ApiKey", placeholder="none needed", secret=True)
