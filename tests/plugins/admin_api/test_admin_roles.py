"""The routes that manage roles."""

import pytest

SUCCESS = {"success": True}
BUILT_IN = {"owner", "admin", "poweruser", "user", "guest"}
FIELDS = {
    "name",
    "description",
    "max_outpath_depth",
    "max_t2i_simultaneous",
    "allow_unsafe_outpaths",
    "model_whitelist",
    "model_blacklist",
    "permissions",
    "is_auto_generated",
}


def roles(client):
    """All roles by id."""
    return client.post("AdminListRoles")["roles"]


@pytest.fixture(name="role")
def _role(boss, request):
    """A new role's id."""
    name = request.node.name.replace("[", "_").partition("]")[0]
    assert SUCCESS == boss.post("AdminAddRole", name=name)
    return next(role_id for role_id, role in roles(boss).items() if role["name"] == name)


def test_list(boss):
    """Every role has all its fields, and the built-in ones say so."""
    listed = roles(boss)

    assert listed.keys() >= BUILT_IN
    assert all(FIELDS == role.keys() for role in listed.values())
    assert BUILT_IN == {role_id for role_id, role in listed.items() if role["is_auto_generated"]}
    assert "*" in listed["owner"]["permissions"]


def test_add(boss):
    """A role's id is what its name has of letters, digits and _; it begins with no permission."""
    assert SUCCESS == boss.post("AdminAddRole", name="Night Shift!")

    added = roles(boss)["nightshift"]
    assert ("Night Shift!", [], False) == (added["name"], added["permissions"], added["is_auto_generated"])
    assert SUCCESS == boss.post("AdminDeleteRole", name="NightShift")
    assert "nightshift" not in roles(boss)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a!b", "3 to 70"), ("x" * 71, "3 to 70"), ("Owner", "There is a role owner already"), ("__x", "__")],
)
def test_roles_that_cannot_be_added(boss, name, text):
    """A role with a bad or a known name is refused with the reason."""
    before = roles(boss)

    assert text in boss.post("AdminAddRole", name=name)["error"]

    assert before == roles(boss)


def test_edit(boss, role, edit):
    """Editing replaces everything but the name; of a list each entry is kept once."""
    changes = {
        "description": "Those who work at night.",
        "max_outpath_depth": 3,
        "max_t2i_simultaneous": 7,
        "allow_unsafe_outpaths": True,
        "model_whitelist": "sdxl/, flux,,sdxl/ ",
        "model_blacklist": "sdxl/secret",
    }

    assert SUCCESS == edit(boss, role.upper(), permissions="model_params, view_logs", **changes)

    found = roles(boss)[role]
    lists = {
        "model_whitelist": ["sdxl/", "flux"],
        "model_blacklist": ["sdxl/secret"],
        "permissions": ["model_params", "view_logs"],
    }
    assert {**changes, **lists, "name": found["name"], "is_auto_generated": False} == found
    assert SUCCESS == edit(boss, role)
    assert [] == roles(boss)[role]["permissions"]


def test_lists_may_be_lists(boss, role, edit):
    """A JSON list is as good as a text with commas, so that a deny list never fails silently."""
    assert SUCCESS == edit(boss, role, model_blacklist=["a,b", " c "], permissions=["model_params"])

    assert ["a,b", "c"] == roles(boss)[role]["model_blacklist"]
    assert ["model_params"] == roles(boss)[role]["permissions"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"permissions": "model_params,no_such_thing,nor_this"}, "no permissions no_such_thing, nor_this"),
        ({"max_t2i_simultaneous": 0}, "max_t2i_simultaneous"),
        ({"max_outpath_depth": -1}, "max_outpath_depth"),
        ({"max_outpath_depth": "deep"}, "max_outpath_depth"),
        ({"name": "nosuchrole"}, "no role 'nosuchrole'"),
    ],
)
def test_edits_that_cannot_be(boss, edit, changes, text):
    """A bad value among several is refused by name, and nothing changes."""
    before = roles(boss)

    assert text in edit(boss, **{"name": "guest", "description": "changed", **changes})["error"]

    assert before == roles(boss)


def test_all_fields_are_required(boss):
    """An edit that leaves a field out is refused: it would replace it by nothing."""
    assert "missing_parameter" == boss.post("AdminEditRole", name="guest", description="")["error_id"]


def test_deletion_takes_the_role_away(boss, role, edit, add, log_in):
    """Who had a deleted role has lost what it allowed, and their session."""
    edit(boss, role, permissions="fundamental_generate_tab_access")
    client = log_in(add("nora", role))
    assert "status" in client.post("GetCurrentStatus")

    assert SUCCESS == boss.post("AdminDeleteRole", name=role)

    assert "invalid_session_id" == client.post("GetCurrentStatus")["error_id"]
    assert "" == boss.post("AdminGetUserInfo", name="nora")["settings"]["roles"]["value"]
    assert "bad_permissions" == log_in("nora").post("GetCurrentStatus")["error_id"]


@pytest.mark.parametrize(
    ("name", "text"), [("guest", "built in"), ("nosuchrole", "no role"), ("gue-st", "no role")]
)
def test_roles_that_cannot_be_deleted(boss, name, text):
    """Built-in and unknown roles are not deleted."""
    assert text in boss.post("AdminDeleteRole", name=name)["error"]
    assert roles(boss).keys() >= BUILT_IN


def test_an_edit_is_felt_at_once(boss, role, edit, add, log_in):
    """What an edit takes from a role, its users have lost with the answer."""
    edit(boss, role, permissions="fundamental_generate_tab_access,view_logs")
    client = log_in(add("theo", role))
    assert "entries" in client.post("ListAuditLog")

    edit(boss, role, permissions="fundamental_generate_tab_access")

    assert "invalid_session_id" == client.post("ListAuditLog")["error_id"]
    assert "bad_permissions" == log_in("theo").post("ListAuditLog")["error_id"]


def test_nobody_edits_above_themselves(boss, manager, edit):
    """Who configures roles can neither give more than they have, nor touch a role that has more."""
    before = roles(boss)
    mine = before["manager"]["permissions"]

    refused = [
        edit(manager, "manager", permissions=",".join([*mine, "*"])),
        edit(manager, "guest", permissions="install"),
        edit(manager, "guest", max_t2i_simultaneous=33),
        edit(manager, "guest", allow_unsafe_outpaths=True),
        edit(manager, "owner", permissions="*"),
        manager.post("AdminDeleteRole", name="owner"),
    ]

    assert ["error"] * 6 == [*map(next, map(iter, refused))]
    assert before == roles(boss)
    assert SUCCESS == edit(manager, "poweruser", permissions=",".join(before["poweruser"]["permissions"]))


def test_full_control_is_given_by_who_has_it(boss, role, edit, add, log_in):
    """`*` is a permission like others to who has it, and gives everything."""
    assert SUCCESS == edit(boss, role, permissions="*")

    assert "roles" in log_in(add("oskar", role)).post("AdminListRoles")


def test_permissions_are_described(boss):
    """Every permission is listed with name, group, default level and safety, and all are in order of their groups."""
    answer = boss.post("AdminListPermissions")

    known, ordered = answer["permissions"], answer["ordered"]
    assert sorted(known) == sorted(ordered)
    assert {
        "name": "Manage Users",
        "description": "Add, change and delete users, and act as them.",
        "default": "NOBODY",
        "group": {"name": "Admin", "description": "Managing the server and its users."},
        "safety_level": "POWERFUL",
        "alt_safety_text": None,
    } == known["manage_users"]
    levels = ("interrupt_others", "view_backends_list", "model_params", "fundamental", "install")
    spelled = [known[permission]["default"] for permission in levels]
    assert ["ADMINS", "POWERUSERS", "USER", "GUEST", "NOBODY"] == spelled
    groups = list(dict.fromkeys(known[permission]["group"]["name"] for permission in ordered))
    assert ["Special", "Admin", "Backends Admin", "Control", "Parameters", "User", "ComfyUI"] == groups
    assert all(known[permission]["group"]["description"] for permission in ordered)


def test_permissions_are_asked_for(add, log_in):
    """Who may not configure roles cannot even see them."""
    client = log_in(add("ulla", "admin"))
    for route in (
        "AdminListRoles",
        "AdminListPermissions",
        "AdminAddRole",
        "AdminEditRole",
        "AdminDeleteRole",
    ):
        assert "bad_permissions" == client.post(route, name="ulla")["error_id"]
