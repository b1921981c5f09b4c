"""Users and roles at one moment."""

from collections.abc import Mapping
from functools import cached_property
from typing import TypeVar

import attrs

from swarmkernel_accounts.rights import FULL_CONTROL, Rights
from swarmkernel_accounts.values import Role, User

T = TypeVar("T")


@attrs.frozen
class Snapshot:
    """Users and roles by their ids, and what follows from them. Roles that do not exist give nothing."""

    users: Mapping[str, User] = attrs.field(factory=dict)
    roles: Mapping[str, Role] = attrs.field(factory=dict)
    _united: dict[tuple[str, ...], Rights] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    def rights(self, user_id: str) -> Rights:
        """What a user may do; nothing if there is no such user."""
        user = self.users.get(user_id)
        return self.united(user.roles if user else ())

    def united(self, role_ids: tuple[str, ...]) -> Rights:
        """The rights that these roles give together."""
        rights = self._united.get(role_ids)
        if rights is None:
            rights = Rights.of(self.roles[role_id] for role_id in role_ids if role_id in self.roles)
            self._united[role_ids] = rights
        return rights

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """The ids of users with full control."""
        return tuple(u.id for u in self.users.values() if FULL_CONTROL in self.united(u.roles).permissions)

    def changed(self, users: Mapping[str, User | None], roles: Mapping[str, Role | None]) -> "Snapshot":
        """The same with these users and roles added, replaced, or (None) gone."""
        return Snapshot(_with(self.users, users), _with(self.roles, roles))


def _with(values: Mapping[str, T], changed: Mapping[str, T | None]) -> dict[str, T]:
    new = dict(values)
    for key, value in changed.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = value
    return new
