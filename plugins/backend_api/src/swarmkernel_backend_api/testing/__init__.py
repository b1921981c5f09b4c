"""For the tests of packages with backends: a suite that every backend must pass, and a backend that fails on demand."""

from swarmkernel_backend_api.testing.conformance import BackendConformance
from swarmkernel_backend_api.testing.harness import fleet, until
from swarmkernel_backend_api.testing.synthetic import SYNTHETIC, WORK, SyntheticSettings, Task, Tick

__all__ = ["SYNTHETIC", "WORK", "BackendConformance", "SyntheticSettings", "Task", "Tick", "fleet", "until"]
