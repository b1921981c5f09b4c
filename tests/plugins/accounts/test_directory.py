"""Users and roles: what is kept, and that nobody grants what they do not hold."""

import asyncio

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from swarmkernel import MemoryStore
from swarmkernel_accounts import EVERYTHING, AccountError, Directory, Rights, Role, User
from swarmkernel_accounts.changes import Changes
from swarmkernel_accounts.permissions import PERMISSIONS

SMALL = Role(max_outpath_depth=1, max_t2i_simultaneous=2, permissions=("p", "manage_users"))


@pytest.fixture(name="store")
def _store():
    return MemoryStore()


@pytest.fixture(name="directory")
async def _directory(store):
    """A directory with an owner, and bob with the role `small`."""
    directory = Directory.of(store, Changes.of(store))
    await directory.seed(PERMISSIONS)
    await directory.add_user(User("eve", ("owner",)))
    await directory.add_role("small", SMALL)
    await directory.add_user(User("bob", ("small",)))
    return directory


async def reread(store):
    """What a second process finds."""
    directory = Directory.of(store, Changes.of(store))
    await directory.reload()
    return directory


def with_roles(*roles):
    """A change that gives a user these roles."""
    return lambda user: attrs.evolve(user, roles=roles)


async def test_what_is_kept(directory, store):
    """Users and roles are there for the next process as they were made."""
    await directory.add_user(User("ann", ("user", "guest", "user"), password="hash", oauth_email="a@b.c"))
    await directory.change_user("ann", lambda u: attrs.evolve(u, password_by_admin=False))
    await directory.change_role("small", lambda r: attrs.evolve(r, model_whitelist=("sd/", " ", "sd/", "")))
    await directory.delete_user("bob")
    again = await reread(store)

    ann = again.users["ann"]
    assert ("user", "guest") == ann.roles
    assert ("hash", False, "a@b.c") == (ann.password, ann.password_by_admin, ann.oauth_email)
    assert ann.created > 1.7e9
    assert ("sd/",) == again.roles["small"].model_whitelist
    assert {"ann", "eve"} == again.users.keys()
    assert (directory.users, directory.roles) == (again.users, again.roles)


def test_a_hash_is_not_shown():
    """A password's hash is in no text about a user."""
    assert "hash" not in repr(User("ann", (), password="hash"))


@pytest.mark.parametrize("name", ["", "Ann", "a b", "a/b", "../x", "__shared", "ä", "x" * 101, "con."])
async def test_ids(directory, name):
    """An id is what cleaning leaves as it is, of up to 100 characters, and none of the server's own."""
    with pytest.raises(AccountError, match=r"is no id|begin with __"):
        await directory.add_user(User(name, ("user",)))
    with pytest.raises(AccountError, match=r"is no id|begin with __"):
        await directory.add_role(name, Role())


async def test_unknown_and_existing(directory):
    """Who is there cannot be added, and who is not cannot be changed."""
    for refused, text in (
        (directory.add_user(User("bob", ("user",))), "already"),
        (directory.add_role("small", Role()), "already"),
        (directory.add_user(User("ann", ("user", "nobody"))), "no role 'nobody'; the roles are: admin, "),
        (directory.change_user("bob", with_roles("nobody")), "no role 'nobody'"),
        (directory.change_user("ann", with_roles("user")), "no user 'ann'"),
        (directory.delete_user("ann"), "no user 'ann'"),
        (directory.change_role("large", lambda r: r), "no role 'large'"),
        (directory.delete_role("large"), "no role 'large'"),
    ):
        with pytest.raises(AccountError, match=text):
            await refused


async def test_an_email_is_one_users(directory):
    """Two users cannot have one e-mail address; having none is no clash."""
    await directory.change_user("bob", lambda u: attrs.evolve(u, oauth_email="a@b.c"))
    await directory.change_user("bob", lambda u: attrs.evolve(u, oauth_email="a@b.c"))
    with pytest.raises(AccountError, match="e-mail"):
        await directory.change_user("eve", lambda u: attrs.evolve(u, oauth_email="a@b.c"))


@pytest.mark.parametrize(
    "bad",
    [
        {"max_t2i_simultaneous": 0},
        {"max_t2i_simultaneous": 10_001},
        {"max_outpath_depth": -1},
        {"max_outpath_depth": 101},
        {"name": "x" * 101},
        {"description": "x" * 1001},
        {"permissions": ("x" * 201,)},
        {"model_whitelist": tuple(map(str, range(1001)))},
        {"model_blacklist": ("x" * 201,)},
    ],
)
async def test_limits_of_roles(directory, bad):
    """A role's numbers are in their range, and its texts and lists not endless."""
    with pytest.raises(AccountError):
        await directory.add_role("new", Role(**bad))
    with pytest.raises(AccountError):
        await directory.change_role("small", lambda r: attrs.evolve(r, **bad))
    assert SMALL == directory.roles["small"]


async def test_an_id_stays(directory):
    """A change cannot turn one user into another."""
    changed = await directory.change_user("bob", lambda u: attrs.evolve(u, id="eve"))

    assert "bob" == changed.id
    assert ("owner",) == directory.users["eve"].roles


async def test_a_deleted_role_leaves_its_users(directory):
    """Who had a role that is deleted has it no longer, and does not get it back with a new one of its name."""
    await directory.change_user("bob", with_roles("small", "guest"))
    await directory.delete_role("small")
    await directory.add_role("small", Role(permissions=("q",)))

    assert ("guest",) == directory.users["bob"].roles


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.change_user("eve", with_roles("admin")),
        lambda d: d.delete_user("eve"),
        lambda d: d.change_role("owner", lambda r: attrs.evolve(r, permissions=("p",))),
    ],
)
@pytest.mark.parametrize("actor", [None, EVERYTHING])
async def test_the_last_owner_stays(directory, change, actor):
    """Nobody takes full control from the only one who has it; with a second one it can be taken."""
    if actor is not None:
        change_by = change
        change = lambda d: _acting(change_by, d, actor)  # noqa: E731
    with pytest.raises(AccountError, match="nobody with full control"):
        await change(directory)
    assert ["eve"] == directory.owners()

    await directory.add_role("ruler", Role(permissions=("*",)))
    await directory.change_user("bob", with_roles("ruler"))
    await change(directory)
    assert ["bob"] == directory.owners()


def _acting(change, directory, actor):
    """The same change by an actor instead of the console."""

    class As:
        def __getattr__(self, name):
            return lambda *args: getattr(directory, name)(*args, actor=actor)

    return change(As())


async def test_no_owner_yet(directory):
    """While nobody ever was an owner, there is none to lose."""
    fresh = Directory.of(store := MemoryStore(), Changes.of(store))
    await fresh.add_user(User("bob", ()))
    await fresh.delete_user("bob")

    assert {} == fresh.users


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d, a: d.add_user(User("ann", ("owner",)), actor=a), "do not have yourself"),
        (lambda d, a: d.add_user(User("ann", ("small", "guest")), actor=a), "do not have yourself"),
        (lambda d, a: d.change_user("bob", with_roles("small", "admin"), actor=a), "do not have yourself"),
        (lambda d, a: d.change_user("eve", with_roles("guest"), actor=a), "every right that it has"),
        (lambda d, a: d.change_user("eve", lambda u: attrs.evolve(u, password=None), actor=a), "every right"),
        (lambda d, a: d.delete_user("eve", actor=a), "every right that it has"),
        (lambda d, a: d.change_role("guest", lambda r: r, actor=a), "every right that it has"),
        (lambda d, a: d.add_role("new", Role(permissions=("*",)), actor=a), "do not have yourself"),
        (lambda d, a: d.add_role("new", Role(permissions=("p",)), actor=a), "do not have yourself"),
        (lambda d, a: d.add_role("new", attrs.evolve(SMALL, permissions=("q",)), actor=a), "do not have"),
        (
            lambda d, a: d.change_role("small", lambda r: attrs.evolve(r, permissions=("p", "q")), actor=a),
            "do not have",
        ),
        (
            lambda d, a: d.change_role("small", lambda r: attrs.evolve(r, max_t2i_simultaneous=3), actor=a),
            "do not have",
        ),
    ],
)
async def test_nobody_grants_what_they_do_not_hold(directory, change, text):
    """A change that would give more than its actor has, or touches one with more rights, is refused whole."""
    before = directory.users, directory.roles
    with pytest.raises(AccountError, match=text):
        await change(directory, directory.rights("bob"))

    assert before == (directory.users, directory.roles)


async def test_a_role_that_held_others_back(directory):
    """A role whose lists narrow what others may use cannot be taken away by who may not use as much."""
    await directory.add_role("narrow", attrs.evolve(SMALL, model_whitelist=("sdxl/",)))
    await directory.add_user(User("ann", ("narrow",)))
    await directory.add_user(User("tom", ("small", "narrow")))

    with pytest.raises(AccountError, match="do not have yourself"):
        await directory.change_user("tom", with_roles("small"), actor=directory.rights("ann"))
    with pytest.raises(AccountError, match="do not have yourself"):
        await directory.delete_role("narrow", actor=directory.rights("ann"))


async def test_what_equals_may_do(directory):
    """Who has as many rights may change a user, as far as their own rights go."""
    await directory.add_user(User("ann", ("small",)), actor=directory.rights("bob"))
    await directory.change_user("ann", lambda u: attrs.evolve(u, password="x"), actor=directory.rights("bob"))
    await directory.delete_user("ann", actor=directory.rights("bob"))

    assert {"bob", "eve"} == directory.users.keys()


async def test_the_local_user():
    """Without accounts everybody acts with every right; with them the local user does where that is trusted."""
    changes = Changes.of(store := MemoryStore())
    is_open = Directory.of(store, changes, is_open=True)
    trusting, closed = Directory.of(store, changes, trusts_local=True), Directory.of(store, changes)

    assert [EVERYTHING, EVERYTHING, Rights()] == [d.acting("local") for d in (is_open, trusting, closed)]
    assert [EVERYTHING, Rights(), Rights()] == [d.acting("bob") for d in (is_open, trusting, closed)]
    assert [Rights(), Rights(), Rights()] == [d.rights("bob") for d in (is_open, trusting, closed)]


async def test_leaving(directory):
    """What belongs to a deleted user goes in the same transaction: all or nothing."""
    left = []

    async def leave(user_id):
        left.append(user_id)
        if user_id == "bob":
            raise ZeroDivisionError

    directory.leaving.append(leave)
    with pytest.raises(ZeroDivisionError):
        await directory.delete_user("bob")
    with pytest.raises(AccountError):
        await directory.delete_user("eve", actor=directory.rights("bob"))

    assert (["bob"], {"bob", "eve"}) == (left, directory.users.keys())


async def test_two_at_once(directory, store):
    """Of two changes at once, each sees the other: two owners cannot both resign."""
    await directory.change_user("bob", with_roles("owner"))
    other = await reread(store)
    done = await asyncio.gather(
        directory.change_user("bob", with_roles("guest")),
        other.change_user("eve", with_roles("guest")),
        directory.delete_user("eve"),
        return_exceptions=True,
    )

    assert 1 == len([d for d in done if not isinstance(d, AccountError)])
    assert 1 == len((await reread(store)).owners())


IDS = st.sampled_from(["ann", "bob", "cid", "dan", "eve"])
ROLE_IDS = st.sampled_from(["owner", "low", "mid", "top", "odd"])
LISTS = st.lists(st.sampled_from(["a", "ab", "b"]), max_size=2).map(tuple)
#: Who can do this can do all else.
FULL_CONTROL = ("permission", "*")
#: Every model that there is.
MODELS = ["a", "aa", "ab", "abb", "b", "ba", "c"]
ROLES = st.builds(
    Role,
    max_outpath_depth=st.integers(0, 2),
    max_t2i_simultaneous=st.integers(1, 3),
    allow_unsafe_outpaths=st.booleans(),
    model_whitelist=LISTS,
    model_blacklist=LISTS,
    permissions=st.lists(st.sampled_from(["p", "q", "r", "s", "p", "q", "*"]), max_size=4).map(tuple),
)
SETS = st.lists(ROLE_IDS, max_size=2).map(tuple)


def everything(directory):
    """What each user and each role allows, by their ids, which do not clash here."""
    users = {
        u.id: [directory.roles[r] for r in u.roles if r in directory.roles] for u in directory.users.values()
    }
    roles = {role_id: [role] for role_id, role in directory.roles.items()}
    return {who: can(held) for who, held in (users | roles).items()}


def can(roles):
    """All that these roles allow as a set, worked out here by the wording of the rules."""
    held = {p for role in roles for p in role.permissions}
    if not held:
        return set()
    white = [start for role in roles for start in role.model_whitelist]
    black = [start for role in roles for start in role.model_blacklist]
    models = {
        m for m in MODELS if not m.startswith(tuple(black)) and (not white or m.startswith(tuple(white)))
    }
    able = {("permission", p) for p in held} | {("model", m) for m in models}
    able |= {("depth", n) for role in roles for n in range(role.max_outpath_depth + 1)}
    able |= {("simultaneous", n) for role in roles for n in range(role.max_t2i_simultaneous + 1)}
    return able | {("unsafe", True) for role in roles if role.allow_unsafe_outpaths}


class Politics(RuleBasedStateMachine):
    """Random users with random roles do random things to users and roles."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = MemoryStore()
        self.directory = Directory.of(self.store, Changes.of(self.store))

    @initialize(roles=st.tuples(ROLES, ROLES, ROLES), held=st.tuples(SETS, SETS, SETS))
    def begin(self, roles, held):
        """There are an owner, three users and three roles."""

        async def make():
            await self.directory.seed(PERMISSIONS[:1])
            await self.directory.add_user(User("eve", ("owner",)))
            for role_id, role in zip(("low", "mid", "top"), roles, strict=True):
                await self.directory.add_role(role_id, role)
            for user_id, role_ids in zip(("ann", "bob", "cid"), held, strict=True):
                known = tuple(r for r in role_ids if r != "odd")
                await self.directory.add_user(User(user_id, known))

        self.runner.run(make())

    @rule(actor=IDS, user=IDS, roles=SETS)
    def add_user(self, actor, user, roles):
        """Somebody adds a user."""
        self.act(actor, lambda by: self.directory.add_user(User(user, roles), actor=by))

    @rule(actor=IDS, user=IDS, roles=SETS)
    def change_user(self, actor, user, roles):
        """Somebody gives a user other roles."""
        self.act(actor, lambda by: self.directory.change_user(user, with_roles(*roles), actor=by), user)

    @rule(actor=IDS, user=IDS)
    def delete_user(self, actor, user):
        """Somebody deletes a user."""
        self.act(actor, lambda by: self.directory.delete_user(user, actor=by), user)

    @rule(actor=IDS, role_id=ROLE_IDS, role=ROLES)
    def add_role(self, actor, role_id, role):
        """Somebody makes a role."""
        self.act(actor, lambda by: self.directory.add_role(role_id, role, actor=by))

    @rule(actor=IDS, role_id=ROLE_IDS, role=ROLES)
    def change_role(self, actor, role_id, role):
        """Somebody changes a role."""
        self.act(actor, lambda by: self.directory.change_role(role_id, lambda _: role, actor=by), role_id)

    @rule(actor=IDS, role_id=ROLE_IDS)
    def delete_role(self, actor, role_id):
        """Somebody deletes a role."""
        self.act(actor, lambda by: self.directory.delete_role(role_id, actor=by), role_id)

    def act(self, actor, action, target=None):
        """Do it, and see that nobody can do more than they or the actor could, and that refusals change nothing."""
        before = self.directory._now
        could = everything(before)
        mine = could.get(actor, set())
        try:
            self.runner.run(action(self.directory.rights(actor)))
        except AccountError:
            assert before is self.directory._now
            return
        if FULL_CONTROL in mine:
            return
        for who, can_now in everything(self.directory).items():
            assert can_now <= could.get(who, set()) | mine or FULL_CONTROL in could[who]
        assert could.get(target, set()) <= mine, "somebody with more rights was changed"

    @invariant()
    def somebody_has_full_control(self):
        """There is always an owner."""
        assert not self.directory.users or self.directory.owners()

    def teardown(self):
        """What is in memory is in the store."""
        kept = self.runner.run(reread(self.store))
        assert (self.directory.users, self.directory.roles) == (kept.users, kept.roles)
        self.runner.close()


def test_politics():
    """Over some hundred random actions, rights never exceed what their holder or the acting one had."""
    run_state_machine_as_test(
        Politics, settings=settings(max_examples=15, stateful_step_count=30, deadline=None)
    )


@pytest.mark.soak
def test_politics_for_long():
    """The same over 50,000 actions."""
    run_state_machine_as_test(
        Politics, settings=settings(max_examples=500, stateful_step_count=100, deadline=None)
    )
