"""Routes as values, and what their handlers are given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from inspect import isasyncgenfunction
from typing import Any, TypeAlias, TypeVar

import attrs
from attrs.validators import deep_iterable, instance_of

from swarmkernel.errors import InvalidSessionError, WrongMethodError
from swarmkernel.permissions import Permission, Public
from swarmkernel.services import Services
from swarmkernel.sessions import Session

T = TypeVar("T")


class Body(dict[str, Any]):
    """Annotation of a parameter that receives the whole request body, less ``session_id``."""


#: Takes the call, then what it wants of the body: its signature is the schema.
#: Returns one answer, or yields many (then the route is a WebSocket).
Handler: TypeAlias = Callable[..., Awaitable[object]] | Callable[..., AsyncIterator[object]]


@attrs.frozen(eq=False)
class Call:
    """
    One call of one route.

    *address* is text about where it comes from, for people; *client* the IP address that limits count by; *secure*
    whether the client sees HTTPS. *reply_headers* go out with the answer of a plain HTTP route.
    """

    services: Services
    body: dict[str, Any]
    headers: Mapping[str, str]
    address: str
    client: str
    secure: bool
    _session: Session | None
    _allowed: Callable[[Session, Permission], bool]
    _receive: Callable[[], Awaitable[dict[str, Any] | None]] | None = None
    reply_headers: list[tuple[str, str]] = attrs.field(factory=list, init=False)

    @property
    def session(self) -> Session:
        """The caller's session; InvalidSessionError on a public route, which has none."""
        if self._session is None:
            raise InvalidSessionError("This call has no session.")
        return self._session

    def find_session(self) -> Session | None:
        """The caller's session, or None on a public route."""
        return self._session

    def get(self, kind: type[T]) -> T:
        """A service, or LookupError."""
        return self.services.get(kind)

    def find(self, kind: type[T]) -> T | None:
        """A service, or None."""
        return self.services.find(kind)

    def allowed(self, permission: Permission) -> bool:
        """Whether the caller holds *permission*."""
        return self._allowed(self.session, permission)

    async def receive(self) -> dict[str, Any] | None:
        """
        The client's next message on this WebSocket, or None once the client has gone.

        Raises BadRequestError for a message that is not a JSON object.
        """
        if self._receive is None:
            raise WrongMethodError("Only a WebSocket route can receive messages.")
        return await self._receive()


@attrs.frozen
class Route:
    """
    ``POST /API/<name>``, or a WebSocket there if the handler is an async generator.

    Args:
        name: as on the wire; matched without regard to letter case.
        handler: ``async def handler(call, ...)``; its parameters are the schema, its docstring is published.
        permission: what the caller must hold, or PUBLIC.
        touches_session: whether a call counts as use of the session.
        large: whether the body may be as large as the server allows, and not only 1 MiB.
        audit: names of the body's keys that the audit log keeps of each call, never one that may hold a secret; None
            for a route whose calls are not kept there.
        aliases: older names of the same route.
    """

    name: str = attrs.field(validator=instance_of(str))
    handler: Handler
    permission: Permission | Public = attrs.field(kw_only=True, validator=instance_of((Permission, Public)))
    touches_session: bool = attrs.field(kw_only=True, default=False)
    large: bool = attrs.field(kw_only=True, default=False)
    audit: tuple[str, ...] | None = attrs.field(kw_only=True, default=None)
    aliases: tuple[str, ...] = attrs.field(
        kw_only=True, default=(), validator=deep_iterable(instance_of(str), instance_of(tuple))
    )

    @property
    def streams(self) -> bool:
        """Whether this is a WebSocket route."""
        return isasyncgenfunction(self.handler)
