"""The built-in roles, and how they come to their permissions."""

import attrs
import pytest

from swarmkernel import Level, MemoryStore, Permission
from swarmkernel_accounts import AccountError, Directory, Role, User
from swarmkernel_accounts.changes import Changes
from swarmkernel_accounts.permissions import PERMISSIONS
from swarmkernel_accounts.roles import seeded

BUILT_IN = ["guest", "user", "poweruser", "admin", "owner"]
NEW = Permission("paint_walls", "Paint Walls", group="Walls", default=Level.POWER)


@pytest.fixture(name="store")
def _store():
    return MemoryStore()


async def start(store, permissions=PERMISSIONS):
    """Read users and roles as a starting server does."""
    directory = Directory.of(store, Changes.of(store))
    await directory.seed(permissions)
    return directory


def without(permission_id):
    """A change that takes a permission from a role."""
    return lambda role: attrs.evolve(
        role, permissions=tuple(p for p in role.permissions if p != permission_id)
    )


async def test_first_start(store):
    """The five built-in roles hold the permissions of their level and of all levels below."""
    roles = (await start(store)).roles

    assert set(BUILT_IN) == roles.keys()
    assert ["Guest", "User", "PowerUser", "Admin", "Owner"] == [roles[r].name for r in BUILT_IN]
    for level, role_id in zip(Level, BUILT_IN, strict=True):
        assert {p.id for p in PERMISSIONS if p.default <= level} == set(roles[role_id].permissions)
        assert (5, 32, False, True) == (
            roles[role_id].max_outpath_depth,
            roles[role_id].max_t2i_simultaneous,
            roles[role_id].allow_unsafe_outpaths,
            roles[role_id].is_auto_generated,
        )


async def test_a_removal_sticks(store):
    """What an operator took from a role stays away over later starts."""
    await (await start(store)).change_role("user", without("manage_presets"))

    again = await start(store)
    assert "manage_presets" not in again.roles["user"].permissions
    assert "manage_presets" in again.roles["admin"].permissions


async def test_a_new_permission_appears_once(store):
    """A permission that no start has seen goes to the roles of its level and above, and only that one time."""
    await start(store)
    later = await start(store, [*PERMISSIONS, NEW])
    assert ["poweruser", "admin", "owner"] == [r for r in BUILT_IN if NEW.id in later.roles[r].permissions]

    await later.change_role("admin", without(NEW.id))
    await start(store)  # without the plugin that declares it
    again = await start(store, [*PERMISSIONS, NEW])
    assert ["poweruser", "owner"] == [r for r in BUILT_IN if NEW.id in again.roles[r].permissions]


async def test_the_owner_keeps_full_control(store):
    """Each start gives full control back to the owner's role."""
    directory = await start(store)
    await directory.change_role("owner", without("*"))
    assert not directory.rights("eve").has("*")

    assert "*" in (await start(store)).roles["owner"].permissions


async def test_a_missing_role_is_made_again(store):
    """A built-in role that the store lost comes back with all permissions of its level."""
    whole = (await start(store)).roles["poweruser"]
    await store.collection("accounts_roles", Role).delete("poweruser")

    assert set(whole.permissions) == set((await start(store)).roles["poweruser"].permissions)


async def test_own_roles_are_left_alone(store):
    """Roles that an operator made get nothing by themselves."""
    await (await start(store)).add_role("painters", Role(permissions=("model_params",)))

    assert ("model_params",) == (await start(store, [*PERMISSIONS, NEW])).roles["painters"].permissions


async def test_a_later_start_writes_nothing(store):
    """Where nothing is new, a start leaves the store as it is, so that running servers hear of no change."""
    await start(store)
    before = store._rows.copy()
    await start(store)

    assert before == store._rows


@pytest.mark.parametrize("role_id", BUILT_IN)
async def test_built_in_roles_cannot_be_deleted(store, role_id):
    """Nobody deletes a built-in role, nor makes it look like another."""
    directory = await start(store)
    with pytest.raises(AccountError, match="built in"):
        await directory.delete_role(role_id)
    await directory.change_role(role_id, lambda role: attrs.evolve(role, is_auto_generated=False))

    assert directory.roles[role_id].is_auto_generated


def test_seeding_adds_and_removes_nothing_else():
    """An existing built-in role keeps its name, limits and further permissions."""
    edited = Role(name="Everyone", max_t2i_simultaneous=3, permissions=("comfy_direct_calls",))

    assert (
        attrs.evolve(edited, is_auto_generated=True)
        == seeded({"guest": edited}, [p.id for p in PERMISSIONS], PERMISSIONS)["guest"]
    )


async def test_rights_of_unknown_roles(store):
    """A role that does not exist gives nothing."""
    directory = await start(store)
    await directory.add_user(User("bob", ("user",)))
    await store.collection("accounts_users", User).put("bob", User("bob", ("gone", "guest")))
    await directory.reload()

    assert set(directory.roles["guest"].permissions) == directory.rights("bob").permissions
