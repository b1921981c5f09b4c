"""What plugins declare, as the kernel took it in: routes, permissions, and the votes on them."""

from __future__ import annotations

import logging

import attrs
from attrs.validators import deep_iterable, instance_of

from swarmkernel.discovery import Plugin
from swarmkernel.permissions import Permission, granted
from swarmkernel.plugins import Plugins
from swarmkernel.routes import Route
from swarmkernel.services import Services
from swarmkernel.sessions import Session
from swarmkernel.wire import Parameter

log = logging.getLogger(__name__)


@attrs.frozen
class Bound:
    """A route, who declared it, and what it takes."""

    plugin: Plugin
    route: Route = attrs.field(validator=instance_of(Route))
    parameters: tuple[Parameter, ...]


@attrs.frozen
class Declared:
    """What one plugin declares: its routes, every permission that it names, its settings."""

    routes: tuple[Bound, ...] = ()
    permissions: tuple[Permission, ...] = attrs.field(
        default=(), validator=deep_iterable(instance_of(Permission))
    )
    settings: tuple[type, ...] = ()


@attrs.define
class Permissions:
    """Every declared permission by id, and the votes on them."""

    plugins: Plugins
    services: Services
    by_id: dict[str, Permission] = attrs.field(factory=dict, init=False)

    def allowed(self, session: Session, permission: Permission) -> bool:
        """Whether the votes let *session* do what *permission* names; a plugin that raises refuses."""
        votes: list[bool | None] = []
        for plugin, vote in self.plugins.implementations("swarm_vote"):
            try:
                votes.append(vote(services=self.services, session=session, permission=permission))
            except Exception:
                log.exception("%s failed to vote on %s", plugin, permission.id)
                votes.append(False)
        return granted(votes)

    def held_by(self, session: Session) -> list[str]:
        """The ids of all permissions that *session* has, sorted."""
        return sorted(p.id for p in self.by_id.values() if self.allowed(session, p))
