"""Who comes in, who has to go, and what else holds while accounts are required."""

import asyncio
import logging
from contextlib import AsyncExitStack
from importlib.metadata import entry_points

import attrs
import pytest

from swarmkernel import (
    LOCAL_USER,
    Accounts,
    Identity,
    Limits,
    MemoryStore,
    Permissions,
    Plugins,
    ServerSettings,
    Services,
    Session,
    Sessions,
    SetupRequiredError,
    StartupError,
    Store,
    StoreError,
    hookimpl,
    with_store,
)
from swarmkernel.plugins import Plugin
from swarmkernel.testing import LiveServer
from swarmkernel_accounts import EVERYTHING, AccountsSettings, Directory, Role, Tokens, User
from swarmkernel_accounts.life import life, vote
from swarmkernel_accounts.permissions import MANAGE_USERS, PERMISSIONS
from swarmkernel_basic_api import hookspecs

USERS = {"eve": "owner", "adam": "admin", "bob": "user", "gus": "guest"}
OTHERS = tuple(
    {ep.name for ep in entry_points(group="swarmkernel.v1")} - {"accounts", "basic_api", "store_sql"}
)
HERE = "127.0.0.1"
#: Enough to act as a user.
EVES_STILL = tuple(p.id for p in PERMISSIONS if p.id != "*")


class Work:
    """A plugin whose work can be interrupted."""

    def __init__(self):
        self.stopped = []

    @hookimpl
    def basic_interrupt(self, session, other_sessions):
        """Note whose work stops."""
        assert other_sessions
        self.stopped.append(session.user_id)


@attrs.define
class World:
    """A server's services, and tokens of four users."""

    services: Services
    work: Work
    texts: dict[str, str] = attrs.field(factory=dict)

    def __getattr__(self, name):
        kinds = {"gate": Accounts, "directory": Directory, "tokens": Tokens, "sessions": Sessions}
        return self.services.get(kinds[name])

    async def log_in(self, user_id):
        """A session that rests on a new token of the user's."""
        token, self.texts[user_id] = await self.tokens.create(
            user_id, address=HERE, user_agent="", is_login=True
        )
        return await self.sessions.open(user_id, HERE, token.id)

    async def identify(self, peer="192.0.2.7", **headers):
        """Who such a request proves."""
        found = await self.gate.identify({k.replace("_", "-"): v for k, v in headers.items()}, peer)
        return found.user_id if found else None

    def alive(self, *sessions):
        """Of which users the sessions are that have not ended."""
        return [s.user_id for s in sessions if not s.ended.is_set()]


@pytest.fixture(name="start")
async def _start():
    """Start accounts on a store, as a server does; all stop when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(store, *, host=HERE, **settings):
            server = ServerSettings(host=host, **settings.pop("server", {}))
            plugins, services, work = Plugins(), Services(), Work()
            plugins.manager.add_hookspecs(hookspecs)
            plugins.add(Plugin("work", "test", work))
            permissions = Permissions(plugins, services)
            permissions.by_id |= {p.id: p for p in PERMISSIONS}
            services.add(Plugins, plugins)
            services.add(Permissions, permissions)
            services.add(ServerSettings, server)
            services.add(AccountsSettings, AccountsSettings(**{"required": True, **settings}))
            services.add(Store, store)
            services.add(Sessions, Sessions.of(store, 100))
            await stack.enter_async_context(life(services))
            accounts = services.find(Accounts)
            if accounts is not None:
                services.get(Sessions).admits = accounts.admits
            return World(services, work)

        yield start


@pytest.fixture(name="world")
async def _world(start):
    """A server that requires accounts, with an owner, an admin, a user and a guest."""
    world = await start(MemoryStore())
    for user_id, role in USERS.items():
        await world.directory.add_user(User(user_id, (role,)))
    return world


def with_roles(*roles):
    """A change that gives a user these roles."""
    return lambda user: attrs.evolve(user, roles=roles)


async def test_tokens_identify(world):
    """A login token proves its user, as a cookie and as a bearer's header."""
    session = await world.log_in("bob")
    text = world.texts["bob"]

    assert Identity("bob", session.token_id) == await world.gate.identify(
        {"cookie": f"a=b; swarm_token={text}"}, HERE
    )
    assert Identity("bob", session.token_id) == await world.gate.identify(
        {"authorization": f"Bearer {text}"}, HERE
    )


async def test_nobody(world):
    """Without a token, or with one that is not whole, unknown, revoked or of a deleted user, one is nobody."""
    session = await world.log_in("bob")
    text = world.texts["bob"]
    other = text[:-1] + ("0" if text[-1] != "0" else "1")

    assert [None] * 5 == [
        await world.identify(),
        await world.identify(cookie="swarm_token="),
        await world.identify(cookie=f"swarm_token={other}"),
        await world.identify(authorization=f"Basic {text}"),
        await world.identify(cookie=f"swarm_token={text}; swarm_token={other}"),
    ]
    await world.tokens.revoke("bob", session.token_id)
    assert await world.identify(cookie=f"swarm_token={text}") is None
    await world.log_in("ghost")
    assert await world.identify(cookie=f"swarm_token={world.texts['ghost']}") is None


async def test_a_user_of_the_same_name(world):
    """The tokens and sessions of a deleted user are not those of a later one of that name."""
    session = await world.log_in("bob")
    await world.directory.delete_user("bob")
    await world.directory.add_user(User("bob", ("user",)))

    assert await world.identify(cookie=f"swarm_token={world.texts['bob']}") is None
    assert await world.sessions.find(session.id) is None


async def test_no_owner_yet(start):
    """While nobody has full control, whoever asks is told that the server must be set up."""
    world = await start(MemoryStore())
    with pytest.raises(SetupRequiredError, match="setup token"):
        await world.identify()
    assert ("setup_required", 403) == (SetupRequiredError.error_id, SetupRequiredError.status)
    await world.directory.add_user(User("bob", ("user",)))
    with pytest.raises(SetupRequiredError):
        await world.identify()
    await world.directory.add_user(User("eve", ("owner",)))

    assert await world.identify() is None


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_is_trusted(start, peer):
    """With trust_localhost, who calls from this machine without a proxy between is the local user and owner."""
    world = await start(MemoryStore(), trust_localhost=True)

    assert LOCAL_USER == await world.identify(peer)
    assert EVERYTHING == world.directory.rights(LOCAL_USER)
    session = await world.sessions.open(LOCAL_USER, peer)
    assert world.gate.admits(session)
    assert vote(world.services, session, MANAGE_USERS)


@pytest.mark.parametrize(
    "header",
    [
        "forwarded",
        "x_forwarded_for",
        "x_forwarded_host",
        "x_forwarded_proto",
        "x_forwarded_anything",
        "via",
        "x_real_ip",
        "cf_connecting_ip",
    ],
)
async def test_a_proxy_is_not_this_machine(start, header):
    """A request that came through a proxy is not from this machine, whatever the header says."""
    world = await start(MemoryStore(), trust_localhost=True)
    await world.directory.add_user(User("eve", ("owner",)))

    assert await world.identify(HERE, **{header: "127.0.0.1"}) is None


@pytest.mark.parametrize(
    "peer", ["192.0.2.7", "10.0.0.1", "unknown", "", "::ffff:192.0.2.7", "127.0.0.1.example"]
)
async def test_others_are_not_this_machine(start, peer):
    """Who calls from elsewhere is nobody without a token."""
    world = await start(MemoryStore(), trust_localhost=True)
    await world.directory.add_user(User("eve", ("owner",)))

    assert await world.identify(peer) is None


@pytest.mark.parametrize(
    "settings", [{"host": "0.0.0.0", "trust_localhost": True}, {"trust_localhost": False}]
)
async def test_trust_ends(start, settings):
    """Not asked for, or with another address to listen on, this machine is not trusted, nor are sessions of then."""
    store = MemoryStore()
    before = await start(store, trust_localhost=True)
    session = await before.sessions.open(LOCAL_USER, HERE)
    assert await before.sessions.find(session.id)
    world = await start(store, **settings)
    await world.directory.add_user(User("eve", ("owner",)))

    assert await world.identify(HERE) is None
    assert await world.sessions.find(session.id) is None
    assert not world.directory.rights(LOCAL_USER).permissions


async def test_a_token_is_more_than_trust(start):
    """Who logs in on this machine is that user, and not the owner."""
    world = await start(MemoryStore(), trust_localhost=True)
    await world.directory.add_user(User("bob", ("user",)))
    await world.log_in("bob")

    assert "bob" == await world.identify(HERE, cookie=f"swarm_token={world.texts['bob']}")


async def test_sessions_rest_on_tokens(world):
    """A session without a token, with another user's or with one that was never made, is not let in."""
    bobs, eves, adams = [(await world.log_in(user)).token_id for user in ("bob", "eve", "adam")]

    assert [True, False, False, False, True, False, False, False] == [
        world.gate.admits(Session("x", user, HERE, 0, 0, token, impersonator))
        for user, token, impersonator in (
            ("bob", bobs, None),
            ("bob", None, None),
            ("gus", bobs, None),
            ("bob", "0" * 32, None),
            ("bob", eves, "eve"),
            ("bob", bobs, "eve"),
            ("bob", None, "eve"),
            ("bob", adams, "adam"),
        )
    ]


@pytest.mark.parametrize(
    ("actor", "other", "may"),
    [
        ("eve", "adam", True),
        ("eve", "gus", True),
        ("eve", "ida", False),  # another owner
        ("eve", "nobody", False),
        ("adam", "bob", False),  # admins do not manage users
        ("mia", "bob", True),
        ("mia", "eve", False),
        ("mia", "adam", False),
        ("mia", "max", False),  # an equal
        ("bob", "gus", False),
        ("nobody", "gus", False),
    ],
)
async def test_impersonation_goes_downwards(world, actor, other, may):
    """Who manages users may act as those with fewer rights, and nobody else as anybody."""
    user = world.directory.roles["user"]
    managing = attrs.evolve(user, permissions=(*user.permissions, "manage_users"))
    await world.directory.add_role("managers", managing)
    for name, role in (("ida", "owner"), ("mia", "managers"), ("max", "managers")):
        await world.directory.add_user(User(name, (role,)))

    assert may == world.gate.may_act_as(actor, other)


async def test_impersonators_sessions(world):
    """A session of who acts as another ends with their token, and with their right to do so."""
    await world.directory.add_user(User("ida", ("owner",)))
    eves = await world.log_in("eve")

    def as_bob():
        return world.sessions.open("bob", HERE, eves.token_id, "eve")

    session = await as_bob()
    assert session is await world.sessions.find(session.id)
    await world.directory.change_user("bob", with_roles("owner"))
    assert await world.sessions.find(session.id) is None
    await world.directory.change_user("bob", with_roles("user"))

    session = await as_bob()
    await world.directory.change_user("eve", with_roles("admin"))
    assert session.ended.is_set()

    await world.directory.change_user("eve", with_roles("owner"))
    session = await as_bob()
    manager = attrs.evolve(world.directory.roles["admin"], permissions=EVES_STILL)
    await world.directory.add_role("managers", manager)
    await world.directory.change_user("eve", with_roles("managers"))
    assert world.gate.may_act_as("eve", "bob")
    assert session.ended.is_set()

    session = await as_bob()
    await world.tokens.revoke("eve", eves.token_id)
    assert session.ended.is_set()


CAUSES = {
    "deleted": lambda w: w.directory.delete_user("bob"),
    "lowered": lambda w: w.directory.change_user("bob", with_roles("guest")),
    "raised": lambda w: w.directory.change_user("bob", with_roles("admin")),
    "role changed": lambda w: w.directory.change_role(
        "user", lambda r: attrs.evolve(r, max_t2i_simultaneous=1)
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_who_has_to_go(world, cause):
    """A user who is gone or whose rights changed loses every session and running work; others lose nothing."""
    bob, again, eve = [await world.log_in(user) for user in ("bob", "bob", "eve")]
    stored = await world.sessions.open("bob", HERE, bob.token_id)
    del world.sessions._live[stored.id]  # as after a restart: in the store alone
    await CAUSES[cause](world)

    assert ["eve"] == world.alive(bob, again, eve)
    assert [None, None, None] == [await world.sessions.find(s.id) for s in (bob, again, stored)]
    assert ["bob"] == world.work.stopped
    assert eve is await world.sessions.find(eve.id)


class Full(MemoryStore):
    """A store that cannot be written for a while."""

    broken = False

    async def erase_row(self, collection, key, version):
        """Erase, or fail as a broken disk does."""
        if self.broken:
            raise StoreError("full")
        return await super().erase_row(collection, key, version)


async def test_who_has_to_go_later(start):
    """Sessions that could not be ended since the store failed are ended once it works again."""
    world = await start(store := Full())
    await world.directory.add_user(User("bob", ("user",)))
    session = await world.log_in("bob")
    store.broken = True
    await world.directory.change_user("bob", with_roles("guest"))
    assert "bob" in world.directory.users
    store.broken = False
    await asyncio.sleep(0.8)

    assert session.ended.is_set()
    assert ["bob"] == world.work.stopped


async def test_who_has_to_go_without_sessions(world):
    """The work of a user who is deleted stops also when no session of theirs is open."""
    await world.directory.delete_user("bob")

    assert ["bob"] == world.work.stopped


async def test_revoked(world):
    """With a token its sessions end, and no others; running work goes on."""
    bob, again = [await world.log_in("bob") for _ in "12"]
    await world.tokens.revoke("bob", bob.token_id)
    assert ["bob"] == world.alive(bob, again)
    assert bob.ended.is_set()

    third = await world.log_in("bob")
    await world.tokens.revoke_all("bob", but=third.token_id)
    assert [False, False, True] == [not s.ended.is_set() for s in (bob, again, third)]
    assert [] == world.work.stopped


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.change_user("bob", lambda u: attrs.evolve(u, password="x", oauth_email="a@b.c")),
        lambda d: d.change_role("user", lambda r: attrs.evolve(r, name="Users", description="All of us.")),
        lambda d: d.change_user("bob", with_roles("user", "guest")),
        lambda d: d.change_role("owner", lambda r: attrs.evolve(r, permissions=("*",))),
        lambda d: d.add_role("new", Role()),
    ],
)
async def test_what_changes_no_rights(world, change):
    """A change that leaves effective rights as they were ends nothing."""
    sessions = [await world.log_in(user) for user in USERS]
    await change(world.directory)

    assert list(USERS) == world.alive(*sessions)
    assert [] == world.work.stopped


async def test_votes(world, start):
    """While accounts are required roles decide, by id or full control; otherwise this package has no say."""
    permissions = {p.id: p for p in PERMISSIONS}

    def says(services, user_id, permission_id):
        return vote(services, Session("x", user_id, HERE, 0, 0), permissions[permission_id])

    assert [True, False] == [says(world.services, "adam", p) for p in ("edit_backends", "manage_users")]
    assert [True, False] == [says(world.services, "gus", p) for p in ("fundamental", "edit_params")]
    assert [True, False] == [says(world.services, u, "*") for u in ("eve", "adam")]
    assert not says(world.services, "nobody", "fundamental")
    await world.directory.change_role("owner", lambda r: attrs.evolve(r, permissions=("*",)))
    assert says(world.services, "eve", "edit_params")

    is_open = await start(MemoryStore(), required=False)
    assert says(is_open.services, "local", "fundamental") is None
    assert is_open.services.find(Accounts) is None
    assert is_open.services.find(Limits) is None


async def test_limits(world):
    """Limits are those of a user's roles; who has none may make one picture at a time."""
    await world.directory.change_role("user", lambda r: attrs.evolve(r, model_blacklist=("Secret/",)))
    limits = world.services.get(Limits)

    assert (32, ("secret/",)) == (
        limits.of("bob")["max_t2i_simultaneous"],
        limits.of("bob")["model_blacklist"],
    )
    assert 1 == limits.of("nobody")["max_t2i_simultaneous"]


@pytest.mark.parametrize("was_required", [False, True])
async def test_the_switch(start, was_required):
    """Switching accounts on or off ends all sessions; starting again as before ends none."""
    store = MemoryStore()
    first = await start(store, required=was_required, trust_localhost=True)
    kept = await first.sessions.open(LOCAL_USER, HERE)
    again = await start(store, required=was_required, trust_localhost=True)
    assert await again.sessions.find(kept.id)

    switched = await start(store, required=not was_required, trust_localhost=True)
    assert await switched.sessions.find(kept.id) is None
    assert [] == await store.collection("sessions", dict).items()


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "server": {"tls_cert": "a", "tls_key": "b"}}, False),
        ({"host": "0.0.0.0", "server": {"trusted_proxies": ["10.0.0.1"]}}, False),
        ({"host": "0.0.0.0", "required": False}, False),
        ({"host": "localhost"}, False),
    ],
)
async def test_passwords_in_clear(start, caplog, settings, warned):
    """A server that takes passwords over a network without TLS says so once in its log."""
    with caplog.at_level(logging.WARNING):
        await start(MemoryStore(), **settings)

    assert warned == ("cross the network in clear" in caplog.text)


def test_broken_accounts_let_nobody_in(tmp_path):
    """A server whose accounts are required and cannot be read does not start: without them everybody is the owner."""

    async def spoil(services):
        store = services.get(Store)
        await store.collection("accounts_users", dict).put("bob", {"roles": 7})
        await store.collection("accounts_state", int).put("changes", 1)

    with_store(spoil, config=None, data_dir=tmp_path, strict=None, disable=OTHERS, require=())
    server = LiveServer(
        tmp_path, [f"--disable={name}" for name in OTHERS], {"SWARMKERNEL_ACCOUNTS__REQUIRED": "true"}
    )
    with pytest.raises(StartupError, match=r"accounts.* failed"):
        server.start()
