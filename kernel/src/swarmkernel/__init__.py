"""A small plugin server: routing, sessions and permission checks."""

from swarmkernel.errors import (
    BadRequestError,
    ConflictError,
    InvalidSessionError,
    KernelError,
    PermissionDeniedError,
    RouteError,
    StartupError,
    StoppingError,
    StoreError,
    UnknownRouteError,
    WrongMethodError,
)
from swarmkernel.hookspecs import hookimpl, hookspec
from swarmkernel.kernel import SERVER_ID, VERSION, Permissions
from swarmkernel.permissions import PUBLIC, Level, Permission, Safety
from swarmkernel.plugins import Plugins
from swarmkernel.routes import Body, Call, Route
from swarmkernel.services import Services, Stopping
from swarmkernel.sessions import Session, Sessions
from swarmkernel.settings import ServerSettings
from swarmkernel.store import Collection, MemoryStore, Record, Row, RowStore, Store
from swarmkernel.users import LOCAL_USER, Accounts, UserData

__all__ = [
    "LOCAL_USER",
    "PUBLIC",
    "SERVER_ID",
    "VERSION",
    "Accounts",
    "BadRequestError",
    "Body",
    "Call",
    "Collection",
    "ConflictError",
    "InvalidSessionError",
    "KernelError",
    "Level",
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
    "StartupError",
    "Stopping",
    "StoppingError",
    "Store",
    "StoreError",
    "UnknownRouteError",
    "UserData",
    "WrongMethodError",
    "hookimpl",
    "hookspec",
]
