"""Sessions, user settings, presets, API keys, languages and status."""

from swarmkernel_basic_api.config import BasicSettings

__all__ = ["BasicSettings"]
