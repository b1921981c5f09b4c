"""What users do with their own passwords: prove who they are, register, choose another."""

import hmac
import time

import attrs

from swarmkernel import LOCAL_USER
from swarmkernel_accounts.directory import Directory
from swarmkernel_accounts.names import RESERVED
from swarmkernel_accounts.passwords import Passwords
from swarmkernel_accounts.roles import OWNER
from swarmkernel_accounts.values import AccountError, User


class NameTakenError(AccountError):
    """Nobody can register under that name."""


@attrs.frozen
class Logins:
    """
    Checks and changes the passwords of users.

    Hashing takes its time, in which the user may change: whatever is based on a password holds only if that is still
    the user's at the end.
    """

    _directory: Directory
    _passwords: Passwords

    async def proves(self, user_id: str, given: str) -> bool:
        """Whether *given* is the user's password; its hash is renewed if it is of an older kind."""
        stored = self._stored(user_id)
        verdict = await self._passwords.verify(user_id, given, stored)
        if not verdict.ok:
            return False
        if verdict.rehash is None:
            return _same(self._stored(user_id), stored)
        try:
            await self._replace(user_id, stored, verdict.rehash, by_user=False)
        except AccountError:  # changed meanwhile, perhaps by another login that renewed it
            return (await self._passwords.verify(user_id, given, self._stored(user_id))).ok
        return True

    async def register(self, user_id: str, given: str, role: str) -> None:
        """Add a user with that password and role; NameTakenError for a name that cannot be."""
        self._check_name(user_id)
        password = await self._passwords.hash(user_id, given)
        self._check_name(user_id)
        await self._add(user_id, password, role)

    async def change(self, user_id: str, old: str, new: str) -> None:
        """
        Replace the user's password; *old* may be anything if there is none yet.

        The user that everybody is without accounts becomes a real one by it: an owner, who can log in once accounts
        are required.
        """
        stored = self._stored(user_id)
        if stored and not (await self._passwords.verify(user_id, old, stored)).ok:
            raise AccountError("The old password is not right.")
        password = await self._passwords.hash(user_id, new)
        if user_id == LOCAL_USER and user_id not in self._directory.users:
            await self._add(user_id, password, OWNER)
        else:
            await self._replace(user_id, stored, password, by_user=True)

    def _check_name(self, user_id: str) -> None:
        if not "a" <= user_id[:1] <= "z" or user_id in RESERVED or user_id in self._directory.users:
            raise NameTakenError("That name is taken or reserved, or does not begin with a letter.")

    def _stored(self, user_id: str) -> str | None:
        user = self._directory.users.get(user_id)
        return user.password if user else None

    async def _add(self, user_id: str, password: str, role: str) -> None:
        user = User(user_id, (role,), password, password_by_admin=False, created=time.time())
        await self._directory.add_user(user)

    async def _replace(self, user_id: str, stored: str | None, password: str, *, by_user: bool) -> None:
        def change(user: User) -> User:
            if not _same(user.password, stored):
                raise AccountError("The password was changed by another request at the same time.")
            by_admin = user.password_by_admin and not by_user
            return attrs.evolve(user, password=password, password_by_admin=by_admin)

        await self._directory.change_user(user_id, change)


def _same(one: str | None, other: str | None) -> bool:
    return hmac.compare_digest((one or "").encode(), (other or "").encode())
