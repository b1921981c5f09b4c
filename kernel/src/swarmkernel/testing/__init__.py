"""
Helps plugin authors to test against a real server.

`LiveServer` runs the installed command in its own process; the fixtures of ``swarmkernel.testing.fixtures`` hand it
out. Needs the extra ``swarmkernel[testing]``.
"""

from swarmkernel.testing.distributions import FakeDistributions
from swarmkernel.testing.server import Client, LiveServer

__all__ = ["Client", "FakeDistributions", "LiveServer"]
