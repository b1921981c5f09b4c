"""Backends: what they are, which types there are, and which run."""

from swarmkernel import hookimpl
from swarmkernel_backend_api.backends import Backends
from swarmkernel_backend_api.capability import FREE_MEMORY, Capability, Freed, FreeMemory
from swarmkernel_backend_api.claims import Claim, Claims
from swarmkernel_backend_api.errors import (
    BackendError,
    NotConfiguredError,
    SettingsError,
    UnknownBackendError,
    WorkerLostError,
)
from swarmkernel_backend_api.forms import setting
from swarmkernel_backend_api.settings import BackendApiSettings
from swarmkernel_backend_api.slot import BackendSlot
from swarmkernel_backend_api.status import backend_status, count_running, supported_features
from swarmkernel_backend_api.types import Backend, BackendType, NewBackend, NoSettings, Status

__all__ = [
    "FREE_MEMORY",
    "Backend",
    "BackendApiSettings",
    "BackendError",
    "BackendSlot",
    "BackendType",
    "Backends",
    "Capability",
    "Claim",
    "Claims",
    "FreeMemory",
    "Freed",
    "NewBackend",
    "NoSettings",
    "NotConfiguredError",
    "SettingsError",
    "Status",
    "UnknownBackendError",
    "WorkerLostError",
    "backend_status",
    "count_running",
    "hookimpl",
    "setting",
    "supported_features",
]
