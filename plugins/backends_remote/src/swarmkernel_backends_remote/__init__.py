"""Other servers as backends."""

from swarmkernel_backends_remote.settings import RemoteSettings
from swarmkernel_backends_remote.swarm_settings import SwarmSettings

__all__ = ["RemoteSettings", "SwarmSettings"]
