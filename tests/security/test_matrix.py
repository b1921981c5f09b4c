"""Each role may call exactly the routes that its permissions name; whoever has no session may call none of them."""

import pytest

from swarmkernel import Level
from tests.security.people import REQUIRED, ROLES, People, ask, command, log_in, routes_of, within

LEVELS = dict(zip(ROLES, Level, strict=True))
#: Calls that would disturb the others, with bodies that make them harmless; a missing parameter does for most.
ALLOWED = ("missing_parameter", "invalid_parameter")


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server with accounts."""
    return start(**REQUIRED)


@pytest.fixture(name="people", scope="module")
def _people(server):
    """Everybody on it."""
    return People(server)


@pytest.fixture(name="routes", scope="module")
def _routes(server):
    """All routes of the installation, with their permissions."""
    found = routes_of(server)
    assert len(found) > 55
    assert {"Login", "AdminAddUser", "ListBackends", "ListModels", "GenerateText2ImageWS"} <= found.keys()
    return found


@pytest.fixture(name="levels", scope="module")
def _levels():
    """The lowest role of each permission, as its package declares it."""
    from swarmkernel.kernel import Kernel
    from swarmkernel.settings import SettingsSource

    kernel = Kernel.boot(SettingsSource(None, {}, {"plugins": {"strict": True}}))
    return {permission.id: permission.default for permission in kernel.permissions.by_id.values()}


def may(client, routes) -> dict[str, bool]:
    """Which of the routes that need a permission a client's session may call. None of the calls does anything."""
    found = {}
    for name, facts in routes.items():
        if facts["permission"] is None:
            continue
        body = {p: {} for p in facts["parameters"]}  # an object fits no parameter but text
        if name in {"Logout", "ShutdownServer"}:
            continue
        answer = ask(client, name, facts, body)
        assert answer.get("error_id") not in {
            "basic_api",
            "invalid_session_id",
            "internal_error",
            "bad_route",
        }
        found[name] = answer.get("error_id") != "bad_permissions"
    return found


@pytest.mark.parametrize("role", ROLES)
def test_roles(people, routes, levels, role):
    """A built-in role may call what its list of permissions says, which is what the permissions' levels say."""
    client = people.client(role)
    held = set(people.owner.post("AdminListRoles")["roles"][role]["permissions"])
    everything = "*" in held
    by_list = {n: everything or f["permission"] in held for n, f in routes.items() if f["permission"]}
    by_level = {n: levels[f["permission"]] <= LEVELS[role] for n, f in routes.items() if f["permission"]}
    found = may(client, routes)

    assert {n: v for n, v in by_list.items() if n in found} == found
    assert {n: v for n, v in by_level.items() if n in found} == found
    assert (role == "owner") == everything
    assert (role == "owner") == all(found.values())
    assert any(found.values())


def test_what_a_session_says_of_itself(people, levels):
    """The permissions that a new session and its user data list are those of the role."""
    for role in ROLES:
        client = people.client(role)
        wanted = {i for i, level in levels.items() if level <= LEVELS[role]}
        for answer in (client.raw("GetNewSession").json(), client.post("GetMyUserData")):
            assert wanted == set(answer["permissions"])


def test_no_role(server, people, routes):
    """A user without a role may do nothing, whether the role was taken away or never was one."""
    name = people.add("guest")
    people.done("AdminChangeUserSettings", name=name, settings={"roles": []})
    client = log_in(server, name)

    assert {False} == set(may(client, routes).values())
    assert "bad_permissions" == client.post("Logout")["error_id"]
    assert [] == client.raw("GetNewSession").json()["permissions"]


def test_a_deleted_role(server, people, routes):
    """Who had a role that was deleted has what is left."""
    people.role("passing", ["view_backends_list", "fundamental_generate_tab_access"])
    name = people.add("passing")
    assert people.owner.post("AdminGetUserInfo", name=name)["max_t2i"]
    assert {"ListBackends"} <= {n for n, allowed in may(log_in(server, name), routes).items() if allowed}
    people.done("AdminDeleteRole", name="passing")

    assert {False} == set(may(log_in(server, name), routes).values())


@pytest.mark.parametrize("permission", ["view_backends_list", "manage_users", "fundamental", "nothing"])
def test_one_permission_opens_what_names_it(server, people, routes, permission):
    """A role with one permission may call the routes that name it, and no other."""
    role = people.role(f"only_{permission}", [] if permission == "nothing" else [permission])
    found = may(log_in(server, people.add(role)), routes)

    assert {n for n, f in routes.items() if f["permission"] == permission} & found.keys() == {
        n for n, allowed in found.items() if allowed
    }


def test_strangers(server, people, routes):
    """Without a session every route that is not public says so, existing or not; with a made-up one it is 401."""
    stranger = server.client(login=False)
    public = {n for n, facts in routes.items() if facts["permission"] is None}
    for name, facts in routes.items():
        if name in public:
            continue
        answer = ask(stranger, name, facts, {})
        assert ("invalid_session_id" if facts["streams"] else "basic_api") == answer["error_id"], name
        stranger.session_id = "0" * 40
        assert "invalid_session_id" == ask(stranger, name, facts, {})["error_id"], name
        stranger.session_id = None
    assert {"Login", "GetNewSession", "RegisterBasic"} == public
    assert "not_logged_in" == stranger.raw("GetNewSession").json()["error_id"]
    assert people.owner.session_id


def test_cookies_are_no_session(server, people, routes):
    """A login cookie alone opens no route: only a session does, so that no other page can use it."""
    client = people.client("owner")
    client.session_id = None
    for name, facts in routes.items():
        if facts["permission"] and not facts["streams"]:
            assert "basic_api" == client.post(name)["error_id"], name
    assert "session_id" in client.raw("GetNewSession").json()
    assert server.url == client.url


def test_the_command_makes_the_same_users(server, people, routes, levels):
    """A user whom the command line added, while the server runs, has the same rights."""
    done = command(
        server,
        "users",
        "add",
        "fromshell",
        "--role",
        "poweruser",
        "--password-stdin",
        given="correct horse battery fromshell\n",
    )
    assert 0 == done.returncode, done.stderr
    within(5, lambda: "fromshell" in people.owner.post("AdminListUsers")["users"])
    found = may(log_in(server, "fromshell"), routes)

    wanted = {n: levels[f["permission"]] <= Level.POWER for n, f in routes.items() if f["permission"]}
    assert {n: v for n, v in wanted.items() if n in found} == found
