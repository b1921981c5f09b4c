"""Users and roles at one moment."""

from collections.abc import Mapping

import attrs

from swarmkernel_accounts.rights import FULL_CONTROL, Rights
from swarmkernel_accounts.values import Role, User


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

    def owners(self) -> list[str]:
        """The ids of users with full control."""
        return [u.id for u in self.users.values() if FULL_CONTROL in self.united(u.roles).permissions]

    def with_users(self, changed: Mapping[str, User | None]) -> "Snapshot":
        """The same with users added, replaced, or (None) gone."""
        users = {k: u for k, u in {**self.users, **changed}.items() if u is not None}
        return Snapshot(users, self.roles)

    def with_roles(self, changed: Mapping[str, Role | None]) -> "Snapshot":
        """The same with roles added, replaced, or (None) gone."""
        roles = {k: r for k, r in {**self.roles, **changed}.items() if r is not None}
        return Snapshot(self.users, roles)
