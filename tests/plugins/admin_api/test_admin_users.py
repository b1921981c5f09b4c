"""The routes that manage users."""

import pytest

PASSWORD = "the password of {}"
SUCCESS = {"success": True}


@pytest.fixture(name="otto", scope="module")
def _otto(add):
    """A user whose settings nobody ever changes."""
    return add("otto")


def is_over(client):
    """Whether the client's session has ended."""
    return "invalid_session_id" == client.post("GetCurrentStatus").get("error_id")


def may_log_in(server, name, password):
    """Whether a password lets a user in."""
    answer = server.client(login=False).raw("Login", {"username": name, "password": password}).json()
    return {"success": "true"} == answer


def roles_of(boss, name):
    """The roles of a user, as they are shown."""
    return boss.post("AdminGetUserInfo", name=name)["settings"]["roles"]["value"]


def test_added_users_are_listed(boss, add):
    """A user who was added is in the list, has the role, and what was kept of the name is the id."""
    assert SUCCESS == boss.post("AdminAddUser", name="An-na!", password="a password", role="Guest")

    assert "anna" in boss.post("AdminListUsers")["users"]
    assert "guest" == roles_of(boss, "anna")
    assert boss.post("AdminListUsers")["users"] == sorted(boss.post("AdminListUsers")["users"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "x!y"}, "3 to 70 characters"),
        ({"name": "x" * 71}, "3 to 70 characters"),
        ({"name": "__shared"}, "__"),
        ({"password": "2 short"}, "8 to 500"),
        ({"password": "x" * 501}, "8 to 500"),
        ({"name": "Boss"}, "There is a user boss already"),
        ({"role": "nosuchrole"}, "no role 'nosuchrole'"),
        ({"role": ""}, "no role ''"),
    ],
)
def test_users_that_cannot_be_added(boss, changes, text):
    """A user with a bad name, password or role is refused with the reason, and not added."""
    before = boss.post("AdminListUsers")["users"]

    answer = boss.post(
        "AdminAddUser", **{"name": "newcomer", "password": "a password", "role": "user", **changes}
    )

    assert text in answer["error"]
    assert before == boss.post("AdminListUsers")["users"]


def test_passwords_are_replaced(boss, server, add, log_in):
    """A new password replaces the old one and ends the user's tokens and sessions."""
    client = log_in(add("pia"))

    assert SUCCESS == boss.post("AdminSetUserPassword", name="Pia", password="another password")

    assert is_over(client)
    assert client.raw("GetNewSession").json()["error_id"] == "not_logged_in"
    assert may_log_in(server, "pia", "another password")
    assert not may_log_in(server, "pia", PASSWORD.format("pia"))
    assert boss.post("AdminGetUserInfo", name="pia")["password_set_by_admin"] is True


def test_passwords_are_cleared(boss, server, add):
    """A blank password ends logins by password; one that is too short is refused."""
    add("clara")
    assert "8 to 500" in boss.post("AdminSetUserPassword", name="clara", password="2 short")["error"]
    assert may_log_in(server, "clara", PASSWORD.format("clara"))

    assert SUCCESS == boss.post("AdminSetUserPassword", name="clara", password="")

    assert not may_log_in(server, "clara", PASSWORD.format("clara"))
    assert not may_log_in(server, "clara", " " * 8)


def test_email_addresses(boss, add):
    """An e-mail address is kept for one user only, in any letter case, and can be cleared."""
    add("eva")
    add("emil")

    assert SUCCESS == boss.post("AdminSetUserOAuthEmail", name="eva", email="Eva@example.com ")
    taken = boss.post("AdminSetUserOAuthEmail", name="emil", email="eva@EXAMPLE.com")
    bad = boss.post("AdminSetUserOAuthEmail", name="emil", email="eva at example")

    assert "e-mail address" in taken["error"]
    assert "not an e-mail address" in bad["error"]
    assert "eva@example.com" == boss.post("AdminGetUserInfo", name="eva")["oauth_email"]
    assert SUCCESS == boss.post("AdminSetUserOAuthEmail", name="eva", email="")
    assert SUCCESS == boss.post("AdminSetUserOAuthEmail", name="emil", email="eva@example.com")


def test_settings_and_roles_change_together(boss, add, log_in):
    """Settings of a user and their roles change in one call, and unknown settings are told."""
    client = log_in(add("sofia"))

    answer = boss.post(
        "AdminChangeUserSettings",
        name="sofia",
        settings={"FileFormat.ImageFormat": "JPG", "Roles": ["guest", "poweruser"], "nosuch": 1},
    )

    assert {"success": True, "skipped": ["nosuch"]} == answer
    assert "guest || poweruser" == roles_of(boss, "sofia")
    assert is_over(client)
    settings = log_in("sofia").post("GetUserSettings")["settings"]
    assert "JPG" == settings["fileformat"]["value"]["imageformat"]["value"]
    assert "roles" not in settings


@pytest.mark.parametrize("roles", ["guest,poweruser", "guest || poweruser", [" GUEST", "poweruser", "guest"]])
def test_ways_to_write_roles(boss, add, request, roles):
    """Roles are a list, or text as it is shown or written."""
    name = add(f"walter{len(str(roles))}")

    assert "error" not in boss.post("AdminChangeUserSettings", name=name, settings={"roles": roles})

    assert "guest || poweruser" == roles_of(boss, name)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"theme": "no such theme", "roles": ["guest"]}, "theme"),
        ({"audio.volume": 0.25, "roles": ["nosuchrole"]}, "no role 'nosuchrole'"),
        ({"audio.volume": 0.25, "roles": [1]}, "list of role ids"),
        ({"audio.volume": 0.25, "roles": None}, "list of role ids"),
        (None, "needs settings"),
    ],
)
def test_settings_change_wholly_or_not_at_all(boss, otto, settings, text):
    """One bad value among settings and roles, and none of them changes."""
    answer = boss.post("AdminChangeUserSettings", name=otto, settings=settings)

    info = boss.post("AdminGetUserInfo", name=otto)["settings"]
    assert text in answer["error"]
    assert "user" == info["roles"]["value"]
    assert 0.5 == info["audio"]["value"]["volume"]["value"]


def test_info(boss, add):
    """What is told of a user: id, settings with roles, e-mail address, and how many pictures at a time."""
    add("ines")

    info = boss.post("AdminGetUserInfo", name="INES")

    assert {"user_id", "password_set_by_admin", "settings", "oauth_email", "max_t2i"} == info.keys()
    assert ("ines", True, "", 32) == tuple(
        info[key] for key in ("user_id", "password_set_by_admin", "oauth_email", "max_t2i")
    )
    assert ("list", "user") == (info["settings"]["roles"]["type"], info["settings"]["roles"]["value"])
    assert "JPG" != info["settings"]["fileformat"]["value"]["imageformat"]["value"]


def test_deletion(boss, server, add, log_in):
    """A deleted user has no sessions, tokens, settings or presets; a later one of that name starts anew."""
    client = log_in(add("dora"))
    preset = {"title": "mine", "description": "", "param_map": {"prompt": "a secret"}}
    assert SUCCESS == client.post("AddNewPreset", **preset)
    assert SUCCESS == client.post("SetAPIKey", keyType="civitai_api", key="a secret")
    assert SUCCESS == boss.post("AdminDeleteUser", name="Dora")

    assert is_over(client)
    assert client.raw("GetNewSession").json()["error_id"] == "not_logged_in"
    assert not may_log_in(server, "dora", PASSWORD.format("dora"))
    assert "dora" not in boss.post("AdminListUsers")["users"]
    add("dora")
    assert is_over(client)
    assert client.raw("GetNewSession").json()["error_id"] == "not_logged_in"
    again = log_in("dora")
    assert [] == again.post("GetMyUserData")["presets"]
    assert "not set" == again.post("GetAPIKeyStatus", keyType="civitai_api")["status"]


def test_nobody_deletes_themselves(boss, log_in, manager):
    """Neither oneself can be deleted, nor the last user with full control."""
    assert "yourself" in boss.post("AdminDeleteUser", name="boss")["error"]
    assert "yourself" in manager.post("AdminDeleteUser", name="maude")["error"]
    settings = {"roles": ["admin"]}
    assert "full control" in boss.post("AdminChangeUserSettings", name="boss", settings=settings)["error"]
    assert not is_over(boss)


def test_interrupting(boss, server, add):
    """All work of a user is interrupted, by whoever keeps it."""
    add("irma")

    assert SUCCESS == boss.post("AdminInterruptUser", name="Irma")

    server.wait_for_log("interrupt irma True")


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("AdminSetUserPassword", {"password": "a password"}),
        ("AdminSetUserOAuthEmail", {"email": "a@example.com"}),
        ("AdminChangeUserSettings", {"settings": {"theme": "modern_light"}}),
        ("AdminDeleteUser", {}),
        ("AdminGetUserInfo", {}),
        ("AdminInterruptUser", {}),
    ],
)
@pytest.mark.parametrize("name", ["nobody", "", "bo/ss", "b-oss", "x" * 5000])
def test_unknown_users(boss, route, body, name):
    """A name that is nobody's is refused, not made to fit somebody's."""
    answer = boss.post(route, name=name, **body)

    assert answer["error"].startswith("There is no user ")
    assert len(answer["error"]) < 200


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("AdminSetUserPassword", {"password": "a password"}),
        ("AdminSetUserPassword", {"password": ""}),
        ("AdminSetUserOAuthEmail", {"email": "mine@example.com"}),
        ("AdminChangeUserSettings", {"settings": {"theme": "modern_light"}}),
        ("AdminChangeUserSettings", {"settings": {"roles": ["user"]}}),
        ("AdminDeleteUser", {}),
    ],
)
def test_those_above_are_out_of_reach(boss, server, manager, route, body):
    """Who manages users cannot touch one who may do more: neither to take nor to take over."""
    before = boss.post("AdminGetUserInfo", name="boss")

    assert "error" in manager.post(route, name="boss", **body)

    assert before == boss.post("AdminGetUserInfo", name="boss")
    assert may_log_in(server, "boss", PASSWORD.format("boss"))


def test_nobody_gives_what_they_do_not_have(boss, manager, add):
    """Who manages users cannot make an owner, neither of another nor of themselves."""
    add("greta")
    body = {"name": "grete", "password": "a password", "role": "owner"}

    assert "do not have yourself" in manager.post("AdminAddUser", **body)["error"]
    for name in ("greta", "maude"):
        wanted = {"roles": ["owner"], "theme": "modern_light"}
        answer = manager.post("AdminChangeUserSettings", name=name, settings=wanted)
        assert "do not have yourself" in answer["error"]
        theme = boss.post("AdminGetUserInfo", name=name)["settings"]["theme"]["value"]
        assert "modern_dark" == theme

    assert "grete" not in boss.post("AdminListUsers")["users"]
    assert ("user", "manager") == (roles_of(boss, "greta"), roles_of(boss, "maude"))


def test_what_was_everybodys_is_not_taken_over(boss, manager):
    """The user that everybody was before there were accounts is added by who has full control, and by nobody else."""
    body = {"name": "Lo-cal", "password": "a password", "role": "guest"}

    assert "full control" in manager.post("AdminAddUser", **body)["error"]
    assert "local" not in boss.post("AdminListUsers")["users"]
    assert SUCCESS == boss.post("AdminAddUser", **body)
    assert SUCCESS == boss.post("AdminDeleteUser", name="local")


def test_those_below_are_in_reach(boss, manager, add):
    """Who manages users may do everything to one who may do less."""
    add("lena")
    assert SUCCESS == manager.post("AdminSetUserPassword", name="lena", password="a new password")
    assert SUCCESS == manager.post("AdminSetUserOAuthEmail", name="lena", email="lena@example.com")
    answer = manager.post("AdminChangeUserSettings", name="lena", settings={"roles": ["admin"]})
    assert {"success": True, "skipped": []} == answer
    assert SUCCESS == manager.post("AdminInterruptUser", name="lena")
    assert SUCCESS == manager.post("AdminDeleteUser", name="lena")


def test_an_impersonator_has_the_rights_of_the_other(boss, server, log_in, manager):
    """Who acts as another can do no more than that other, and cannot delete themselves by the detour."""
    disguised = log_in("boss", impersonateUser="maude")
    body = {"name": "gerda", "password": "a password", "role": "owner"}

    assert "do not have yourself" in disguised.post("AdminAddUser", **body)["error"]
    assert "error" in disguised.post("AdminSetUserPassword", name="boss", password="a password")
    assert "error" in disguised.post("AdminDeleteUser", name="boss")
    assert may_log_in(server, "boss", PASSWORD.format("boss"))


def test_permissions_are_asked_for(add, log_in, boss):
    """Without the permission of a route there is no calling it; interrupting has its own."""
    user, admin = log_in(add("uwe")), log_in(add("adam", "admin"))
    routes = ("AdminListUsers", "AdminGetUserInfo", "AdminAddUser", "AdminSetUserPassword")
    routes += ("AdminSetUserOAuthEmail", "AdminChangeUserSettings", "AdminDeleteUser")
    for client in (user, admin):
        for route in routes:
            assert "bad_permissions" == client.post(route, name="uwe")["error_id"]
    assert "bad_permissions" == user.post("AdminInterruptUser", name="adam")["error_id"]
    assert SUCCESS == admin.post("AdminInterruptUser", name="uwe")
