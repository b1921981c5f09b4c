"""A small plugin server: routing, sessions and permission checks."""

from swarmkernel.aside import Aside, AsideError, serve_aside
from swarmkernel.audit import Audit, AuditEntry
from swarmkernel.commands import settings_options, with_store
from swarmkernel.declarations import Permissions
from swarmkernel.errors import (
    BadRequestError,
    BusyError,
    ConflictError,
    InvalidSessionError,
    KernelError,
    PermissionDeniedError,
    RouteError,
    SetupRequiredError,
    StartupError,
    StoppingError,
    StoreError,
    UnknownRouteError,
    WrongMethodError,
)
from swarmkernel.guard import is_from_here, is_loopback
from swarmkernel.hookspecs import hookimpl, hookspec
from swarmkernel.kernel import SERVER_ID, VERSION
from swarmkernel.permissions import PUBLIC, Level, Permission, Safety
from swarmkernel.plugins import Plugins
from swarmkernel.routes import Body, Call, Route
from swarmkernel.scaffold import Template
from swarmkernel.services import Services, Stopping
from swarmkernel.sessions import Session, Sessions, StoredSession
from swarmkernel.settings import ServerSettings, SettingsSource
from swarmkernel.store import Collection, MemoryStore, Record, Row, RowStore, Store
from swarmkernel.users import (
    LOCAL_USER,
    Accounts,
    Identity,
    Limits,
    UserAdmin,
    UserData,
    caller,
    viewer,
)
from swarmkernel.vault import Vault

__all__ = [
    "LOCAL_USER",
    "PUBLIC",
    "SERVER_ID",
    "VERSION",
    "Accounts",
    "Aside",
    "AsideError",
    "Audit",
    "AuditEntry",
    "BadRequestError",
    "Body",
    "BusyError",
    "Call",
    "Collection",
    "ConflictError",
    "Identity",
    "InvalidSessionError",
    "KernelError",
    "Level",
    "Limits",
    "MemoryStore",
    "Permission",
    "PermissionDeniedError",
    "Permissions",
    "Plugins",
    "Record",
    "Route",
    "RouteError",
    "Row",
    "RowStore",
    "Safety",
    "ServerSettings",
    "Services",
    "Session",
    "Sessions",
    "SettingsSource",
    "SetupRequiredError",
    "StartupError",
    "Stopping",
    "StoppingError",
    "Store",
    "StoreError",
    "StoredSession",
    "Template",
    "UnknownRouteError",
    "UserAdmin",
    "UserData",
    "Vault",
    "WrongMethodError",
    "caller",
    "hookimpl",
    "hookspec",
    "is_from_here",
    "is_loopback",
    "serve_aside",
    "settings_options",
    "viewer",
    "with_store",
]
