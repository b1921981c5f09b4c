"""The commands ``swarmkernel users`` and ``swarmkernel tokens``, for a server that runs or one that does not."""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TextIO, TypeVar

import attrs
import click

from swarmkernel import Audit, MemoryStore, Services, StartupError, Store, settings_options, with_store
from swarmkernel_accounts.importing import read_users
from swarmkernel_accounts.life import Parts, open_accounts
from swarmkernel_accounts.passwords import Passwords
from swarmkernel_accounts.tokens import Token
from swarmkernel_accounts.values import AccountError, User

T = TypeVar("T")

#: Who acts, and from where, in the audit log and among tokens.
CONSOLE = "console"
MIN_NAME, MAX_NAME = 3, 70


def commands() -> Iterable[click.Command]:
    """The groups of commands."""
    return users, tokens


@click.group()
def users() -> None:
    """Add, list, change and delete users. A running server follows within a second."""


@click.group()
def tokens() -> None:
    """Create, list and revoke login tokens. A running server follows within a second."""


from_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@users.command("add")
@settings_options
@click.argument("name")
@click.option("--role", required=True, help="Such as owner, admin, poweruser, user or guest.")
@from_stdin
def add_user(name: str, role: str, *, password_stdin: bool, **options: Any) -> None:
    """Add a user with one role. The password is asked for."""
    given, user_id = _password(password_stdin), name.lower()

    async def work(console: Console) -> None:
        if not MIN_NAME <= len(name) <= MAX_NAME:
            raise AccountError(f"A name has {MIN_NAME} to {MAX_NAME} characters: letters, digits and _.")
        user = User(user_id, (role.lower(),), await Passwords().hash(user_id, given))
        async with console.doing("users add", name=user_id, role=role):
            await console.accounts.directory.add_user(user)

    _run(work, options)
    click.echo(f"Added {user_id}.")


@users.command("import")
@settings_options
@click.argument("file", type=click.File(encoding="utf-8"))
def import_users(file: TextIO, **options: Any) -> None:
    """Add the users in a JSON FILE (- is standard input), all or none: a list of objects with name, roles and password.

    A password is a hash, as SwarmUI (swarmpw_v1:...) or this server keeps it, or null.
    """

    async def work(console: Console) -> int:
        found = read_users(file.read())
        async with console.doing("users import", names=[user.id for user in found]):
            for user in found:
                await console.accounts.directory.add_user(user)
        return len(found)

    click.echo(f"Added {_run(work, options)} users.")


@users.command("list")
@settings_options
@as_json
def list_users(*, as_json: bool, **options: Any) -> None:
    """List users. With their roles, whether they have a password, and when they were added."""

    async def work(console: Console) -> list[User]:
        return sorted(console.accounts.directory.users.values(), key=lambda user: user.id)

    rows = [
        {"name": u.id, "roles": u.roles, "has_password": bool(u.password), "email": u.oauth_email}
        | {"created": u.created}
        for u in _run(work, options)
    ]
    _print(rows, as_json, lambda row: (row["name"], ",".join(row["roles"]), *_told_of(row)))


def _told_of(row: Mapping[str, Any]) -> tuple[str, str]:
    return ("password" if row["has_password"] else "no password"), _time(row["created"])


@users.command("set-password")
@settings_options
@click.argument("name")
@from_stdin
def set_password(name: str, *, password_stdin: bool, **options: Any) -> None:
    """Set a password, which is asked for. All login tokens and sessions of the user end."""
    given = _password(password_stdin)

    async def work(console: Console) -> None:
        user_id = console.user(name).id
        hashed = await Passwords().hash(user_id, given)
        async with console.doing("users set-password", name=user_id):
            await console.accounts.directory.change_user(
                user_id, lambda user: attrs.evolve(user, password=hashed, password_by_admin=True)
            )
            await console.accounts.tokens.revoke_all(user_id)

    _run(work, options)
    click.echo(f"Set the password of {name.lower()}.")


@users.command("roles")
@settings_options
@click.argument("name")
@click.argument("role", nargs=-1)
def roles(name: str, role: tuple[str, ...], **options: Any) -> None:
    """Show roles, or replace them by the ROLEs. The user's sessions end if that changes their rights."""
    wanted = tuple(map(str.lower, role))

    async def work(console: Console) -> User:
        user = console.user(name)
        if not wanted:
            return user
        async with console.doing("users roles", name=user.id, roles=wanted):
            return await console.accounts.directory.change_user(
                user.id, lambda user: attrs.evolve(user, roles=wanted)
            )

    for role_id in _run(work, options).roles:
        click.echo(role_id)


@users.command("delete")
@settings_options
@click.argument("name")
def delete_user(name: str, **options: Any) -> None:
    """Delete a user. Their tokens, sessions, settings and presets go too, their pictures stay."""

    async def work(console: Console) -> None:
        user_id = console.user(name).id
        async with console.doing("users delete", name=user_id):
            await console.accounts.directory.delete_user(user_id)

    _run(work, options)
    click.echo(f"Deleted {name.lower()}.")


@tokens.command("create")
@settings_options
@click.argument("name")
@click.option("--reason", required=True, help="What the token is for.")
def create_token(name: str, reason: str, **options: Any) -> None:
    """Make a login token and print it. It is never shown again."""

    async def work(console: Console) -> str:
        user_id = console.user(name).id
        async with console.doing("tokens create", name=user_id, reason=reason):
            _, text = await console.accounts.tokens.create(
                user_id, address=CONSOLE, user_agent=reason, is_login=False
            )
        return text

    click.echo(_run(work, options))


@tokens.command("list")
@settings_options
@click.argument("name", required=False)
@as_json
def list_tokens(name: str | None, *, as_json: bool, **options: Any) -> None:
    """List login tokens. User, id, kind, last use (UTC), address, and program or reason."""

    async def work(console: Console) -> list[Token]:
        ids = [console.user(name).id] if name else sorted(console.accounts.directory.users)
        return [token for user_id in ids for token in console.accounts.tokens.of_user(user_id)]

    rows = [
        attrs.asdict(token, filter=lambda field, _: field.name != "secret") for token in _run(work, options)
    ]
    _print(
        rows,
        as_json,
        lambda row: (
            row["user_id"],
            row["id"],
            "login" if row["is_login"] else "made",
            _time(row["last_active"]),
            row["address"],
            row["user_agent"],
        ),
    )


@tokens.command("revoke")
@settings_options
@click.argument("name")
@click.argument("token_id")
def revoke_token(name: str, token_id: str, **options: Any) -> None:
    """End a login token. The sessions that it opened end too."""

    async def work(console: Console) -> None:
        user_id = console.user(name).id
        async with console.doing("tokens revoke", name=user_id, token=token_id):
            if not await console.accounts.tokens.revoke(user_id, token_id):
                raise AccountError(f"{user_id} has no token {token_id!r}; see `swarmkernel tokens list`.")

    _run(work, options)
    click.echo(f"Revoked a token of {name.lower()}.")


@attrs.frozen
class Console:
    """Users and tokens, as a command works with them."""

    accounts: Parts
    audit: Audit

    def user(self, name: str) -> User:
        """The user of that *name*, in any letter case."""
        user = self.accounts.directory.users.get(name.lower())
        if user is None:
            raise AccountError(f"There is no user {name!r}; see `swarmkernel users list`.")
        return user

    @asynccontextmanager
    async def doing(self, action: str, **subject: object) -> AsyncIterator[None]:
        """A change and its row in the audit log: both or neither."""
        async with self.accounts.changes.writing():
            yield
            await self.audit.record(action, user_id=CONSOLE, subject=subject)


def _run(work: Callable[[Console], Awaitable[T]], options: Mapping[str, Any]) -> T:
    async def opened(services: Services) -> T:
        if isinstance(services.get(Store), MemoryStore):  # type: ignore[type-abstract]
            raise StartupError("no plugin offers a store, so nothing would be kept; enable store_sql")
        return await work(Console(await open_accounts(services), services.get(Audit)))

    try:
        return with_store(opened, **options)
    except AccountError as exc:
        raise StartupError(str(exc)) from None


def _password(from_stdin: bool) -> str:
    """A password from where nobody can read it: not from the arguments, which every process may see."""
    if not from_stdin:
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    try:
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise StartupError("the password on standard input is not UTF-8") from None


def _print(
    rows: list[dict[str, Any]], as_json: bool, shown: Callable[[Mapping[str, Any]], Iterable[str]]
) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo("\t".join(shown(row)))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
