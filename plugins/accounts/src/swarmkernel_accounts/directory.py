"""Who there is and what they may do: users and roles, in memory and in the store."""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import attrs

from swarmkernel import LOCAL_USER, Permission, Store
from swarmkernel import Collection as Rows
from swarmkernel_accounts.changes import Changes, OnCommit
from swarmkernel_accounts.checks import (
    check_grants,
    check_id,
    check_owners,
    check_role,
    check_target,
    check_user,
)
from swarmkernel_accounts.rights import EVERYTHING, Rights
from swarmkernel_accounts.roles import BUILT_IN, seeded, unique
from swarmkernel_accounts.snapshot import Snapshot
from swarmkernel_accounts.values import AccountError, Role, User

T = TypeVar("T")
TRACKED = "tracked_permissions"
NONE: Mapping[str, Any] = MappingProxyType({})


@attrs.define
class Directory:
    """
    Users and roles.

    *is_open*: accounts are not required, so that everybody may do everything. *trusts_local*: LOCAL_USER may.
    Changes take the rights of who asks as *actor*, None for the operator at the console and for users about
    themselves. They raise AccountError, and then nothing was changed.
    """

    _changes: Changes
    _users: Rows[User]
    _roles: Rows[Role]
    _tracked: Rows[list[str]]
    is_open: bool = False
    trusts_local: bool = False
    #: Called with the id of a user who is being deleted, in the same transaction.
    leaving: list[Callable[[str], Awaitable[None]]] = attrs.field(factory=list, init=False)
    #: Called with the id of a user who is being added; AccountError keeps them out.
    arriving: list[Callable[[str], Awaitable[None]]] = attrs.field(factory=list, init=False)
    _now: Snapshot = attrs.field(factory=Snapshot, init=False)

    @classmethod
    def of(
        cls, store: Store, changes: Changes, *, is_open: bool = False, trusts_local: bool = False
    ) -> "Directory":
        """The users and roles in *store*; `seed` reads them."""
        directory = cls(
            changes,
            store.collection("accounts_users", User),
            store.collection("accounts_roles", Role),
            store.collection("accounts_state", list[str]),
            is_open,
            trusts_local,
        )
        changes.keep(directory.reload)
        return directory

    @property
    def users(self) -> Mapping[str, User]:
        """All users by id."""
        return self._now.users

    @property
    def roles(self) -> Mapping[str, Role]:
        """All roles by id."""
        return self._now.roles

    def rights(self, user_id: str) -> Rights:
        """What a user's roles allow; nothing if there is no such user."""
        if user_id == LOCAL_USER and (self.is_open or self.trusts_local):
            return EVERYTHING
        return self._now.rights(user_id)

    def acting(self, user_id: str) -> Rights:
        """What the user of a session may do: everything while accounts are not required."""
        return EVERYTHING if self.is_open else self.rights(user_id)

    def owners(self) -> list[str]:
        """The ids of users with full control."""
        return list(self._now.owners)

    async def seed(self, permissions: Collection[Permission]) -> None:
        """Read what is kept, and see that the built-in roles have what is new among *permissions*."""
        await self._changes.refresh()
        if await self._is_seeded(permissions):
            return
        async with self._changes.writing() as then:
            tracked = await self._tracked.get(TRACKED) or []
            roles = seeded(self.roles, tracked, permissions)
            await self._tracked.put(TRACKED, sorted({*tracked, *(p.id for p in permissions)}))
            await self._put(then, roles=roles)

    async def _is_seeded(self, permissions: Collection[Permission]) -> bool:
        tracked = await self._tracked.get(TRACKED) or []
        roles = seeded(self.roles, tracked, permissions)
        return {p.id for p in permissions} <= set(tracked) and roles.items() <= self.roles.items()

    async def reload(self) -> None:
        """Read all anew from the store."""
        users, roles = await self._users.items(), await self._roles.items()
        self._now = Snapshot({row.key: row.value for row in users}, {row.key: row.value for row in roles})

    async def add_user(self, user: User, *, actor: Rights | None = None) -> None:
        """Add a user whose id is clean and new."""
        async with self._changes.writing() as then:
            check_id(user.id)
            if user.id in self.users:
                raise AccountError(f"There is a user {user.id} already.")
            for check in self.arriving:
                await check(user.id)
            new = attrs.evolve(user, created=user.created or time.time())
            await self._put_user(then, new, actor)

    async def change_user(
        self, user_id: str, change: Callable[[User], User], *, actor: Rights | None = None
    ) -> User:
        """Replace a user by what *change* makes of them, and return that."""
        async with self._changes.writing() as then:
            old = self._user(user_id, actor)
            return await self._put_user(then, attrs.evolve(change(old), id=user_id), actor)

    async def delete_user(self, user_id: str, *, actor: Rights | None = None) -> None:
        """Delete a user, with what is kept here about them."""
        async with self._changes.writing() as then:
            self._user(user_id, actor)
            for leave in self.leaving:
                await leave(user_id)
            await self._put(then, actor, users={user_id: None})

    async def add_role(self, role_id: str, role: Role, *, actor: Rights | None = None) -> None:
        """Add a role whose id is clean and new."""
        async with self._changes.writing() as then:
            check_id(role_id)
            if role_id in self.roles:
                raise AccountError(f"There is a role {role_id} already.")
            await self._put_role(then, role_id, role, actor)

    async def change_role(
        self, role_id: str, change: Callable[[Role], Role], *, actor: Rights | None = None
    ) -> Role:
        """Replace a role by what *change* makes of it, and return that."""
        async with self._changes.writing() as then:
            old = self._role(role_id, actor)
            return await self._put_role(then, role_id, change(old), actor)

    async def delete_role(self, role_id: str, *, actor: Rights | None = None) -> None:
        """Delete a role that is not built in, and take it from those who have it."""
        async with self._changes.writing() as then:
            self._role(role_id, actor)
            if role_id in BUILT_IN:
                raise AccountError(f"The role {role_id} is built in and cannot be deleted.")
            without = {
                user.id: attrs.evolve(user, roles=tuple(r for r in user.roles if r != role_id))
                for user in self.users.values()
                if role_id in user.roles
            }
            await self._put(then, actor, users=without, roles={role_id: None})

    def _user(self, user_id: str, actor: Rights | None) -> User:
        if user_id not in self.users:
            raise AccountError(f"There is no user {user_id[:100]!r}.")
        check_target(actor, self.rights(user_id), f"the user {user_id}")
        return self.users[user_id]

    def _role(self, role_id: str, actor: Rights | None) -> Role:
        if role_id not in self.roles:
            raise AccountError(f"There is no role {role_id[:100]!r}.")
        check_target(actor, Rights.of([self.roles[role_id]]), f"the role {role_id}")
        return self.roles[role_id]

    async def _put_user(self, then: OnCommit, user: User, actor: Rights | None) -> User:
        check_user(user, self._now)
        new = attrs.evolve(user, roles=unique(user.roles))
        await self._put(then, actor, users={user.id: new})
        return new

    async def _put_role(self, then: OnCommit, role_id: str, role: Role, actor: Rights | None) -> Role:
        new = _tidy(role, is_built_in=role_id in BUILT_IN)
        check_role(new)
        await self._put(then, actor, roles={role_id: new})
        return new

    async def _put(
        self,
        then: OnCommit,
        actor: Rights | None = None,
        *,
        users: Mapping[str, User | None] = NONE,
        roles: Mapping[str, Role | None] = NONE,
    ) -> None:
        after = self._now.changed(users, roles)
        check_owners(self._now, after)
        check_grants(self._now, after, actor)
        await _write(self._users, users)
        await _write(self._roles, roles)
        then(lambda: setattr(self, "_now", after))


async def _write(rows: Rows[T], changed: Mapping[str, T | None]) -> None:
    for key, value in changed.items():
        if value is None:
            await rows.delete(key)
        else:
            await rows.put(key, value)


def _tidy(role: Role, *, is_built_in: bool) -> Role:
    """The role with each entry once and none of them blank."""

    def entries(texts: Iterable[str]) -> tuple[str, ...]:
        return unique(filter(None, map(str.strip, texts)))

    return attrs.evolve(
        role,
        model_whitelist=entries(role.model_whitelist),
        model_blacklist=entries(role.model_blacklist),
        permissions=entries(role.permissions),
        is_auto_generated=is_built_in,
    )
