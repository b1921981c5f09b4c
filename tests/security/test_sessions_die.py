"""A session ends with its cause, within a second: its next call is refused, and its open socket is closed."""

import contextlib
import threading
import time

import attrs
import pytest
from websockets.exceptions import ConnectionClosed

from tests.security.people import PASSWORD, command, log_in, within

#: What machines under load may add to the second.
PATIENCE = 6.0
LONG = {"images": 1, "steps": 120, "prompt": "slower", "width": 64, "height": 64, "donotsave": True}
NEW_PASSWORD = "another good password"


@pytest.fixture(name="people", scope="module")
def _people(painting):
    """A server with a backend, and everybody on it."""
    return painting()


@attrs.define
class Watched:
    """A client that has a socket open, on which a long work runs, and what became of that."""

    client: object
    work: dict = LONG
    code: int | None = None
    _thread: threading.Thread = attrs.field(init=False)

    def __attrs_post_init__(self):
        started = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(20)

    def _watch(self, started):
        with self.client.socket("GenerateText2ImageWS", **self.work) as ws:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    ws.recv(timeout=60)
                    started.set()
            self.code = ws.close_code

    @property
    def is_over(self) -> bool:
        """Whether the session's next call is refused as such."""
        answer = self.client.raw("GetCurrentStatus", {"session_id": self.client.session_id})
        return (401, "invalid_session_id") == (answer.status_code, answer.json().get("error_id"))

    def ends(self):
        """Wait for the end of both."""
        within(PATIENCE, lambda: self.is_over)
        within(PATIENCE, lambda: self.code is not None)
        assert 4401 == self.code

    def stays(self):
        """Nothing happened to either."""
        assert not self.is_over
        assert self.code is None


@attrs.define
class Case:
    """One user with two logins, each with a session and a socket."""

    people: object
    role: str = "user"
    work: dict = LONG
    name: str = attrs.field(init=False)
    first: Watched = attrs.field(init=False)
    second: Watched = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.name = self.people.add(self.role)
        self.first, self.second = (
            Watched(log_in(self.people.server, self.name), self.work) for _ in range(2)
        )

    def shell(self, *args, given=""):
        """Run a command that succeeds."""
        done = command(self.people.server, *args, given=given)
        assert 0 == done.returncode, done.stderr + done.stdout

    def token_of(self, watched) -> str:
        """The id of the login token of a client."""
        tokens = watched.client.post("ListMyAuthTokens")["tokens"]
        return next(t["id"] for t in tokens if t["is_current"])


def logout(case):
    """Log out: this login ends."""
    assert {"success": "true"} == case.first.client.post("Logout")
    return [case.first]


def change_password(case):
    """Choose another password: the other logins end."""
    body = {"oldPassword": PASSWORD.format(case.name), "newPassword": NEW_PASSWORD}
    assert {"success": True} == case.second.client.post("ChangePassword", **body)
    return [case.first]


def reset_password(case):
    """Somebody else sets the password: all logins end."""
    case.people.done("AdminSetUserPassword", name=case.name, password=NEW_PASSWORD)
    return [case.first, case.second]


def clear_password(case):
    """Somebody else takes the password away: all logins end."""
    case.people.done("AdminSetUserPassword", name=case.name, password="")
    return [case.first, case.second]


def revoke(case):
    """Revoke a login's token from another login: that login ends."""
    token = case.token_of(case.first)
    assert {"success": True} == case.second.client.post("RevokeMyAuthToken", tokenId=token)
    return [case.first]


def revoke_own(case):
    """Revoke the token of this very login."""
    token = case.token_of(case.first)
    assert {"success": True} == case.first.client.post("RevokeMyAuthToken", tokenId=token)
    return [case.first]


def lower_role(case):
    """The user's role becomes a lower one: all logins begin anew."""
    case.people.done("AdminChangeUserSettings", name=case.name, settings={"roles": ["guest"]})
    return [case.first, case.second]


def raise_role(case):
    """The user's role becomes a higher one: alike, so that no session ever has a mixture."""
    case.people.done("AdminChangeUserSettings", name=case.name, settings={"roles": ["admin"]})
    return [case.first, case.second]


def delete(case):
    """The user is deleted."""
    case.people.done("AdminDeleteUser", name=case.name)
    return [case.first, case.second]


def shell_set_password(case):
    """The operator sets the password."""
    case.shell("users", "set-password", case.name, "--password-stdin", given=f"{NEW_PASSWORD}\n")
    return [case.first, case.second]


def shell_roles(case):
    """The operator changes the roles."""
    case.shell("users", "roles", case.name, "guest")
    return [case.first, case.second]


def shell_delete(case):
    """The operator deletes the user."""
    case.shell("users", "delete", case.name)
    return [case.first, case.second]


def shell_revoke(case):
    """The operator revokes a token."""
    case.shell("tokens", "revoke", case.name, case.token_of(case.first))
    return [case.first]


CAUSES = [
    logout,
    change_password,
    reset_password,
    clear_password,
    revoke,
    revoke_own,
    lower_role,
    raise_role,
    delete,
]
CAUSES += [shell_set_password, shell_roles, shell_delete, shell_revoke]


@pytest.fixture(name="case")
def _case(people):
    """A new user with two logins."""
    case = Case(people)
    yield case
    for watched in (case.first, case.second):
        watched.client.post("InterruptAll", other_sessions=True)


@pytest.fixture(name="bystander", scope="module")
def _bystander(people):
    """Somebody else of the same role, with a session of their own."""
    return people.client()


@pytest.mark.parametrize("cause", CAUSES, ids=[cause.__name__ for cause in CAUSES])
def test_causes(case, bystander, cause):
    """The sessions that lost their ground end, and their sockets close with 4401; no other session notices."""
    case.first.stays()
    case.second.stays()

    ending = cause(case)

    for watched in ending:
        watched.ends()
    for watched in (case.first, case.second):
        if watched not in ending:
            watched.stays()
    assert "status" in bystander.post("GetCurrentStatus")
    for watched in ending:
        assert watched.is_over
        assert "error" in watched.client.post("GetMyUserData")


def test_a_changed_role_ends_all_sessions_under_it(people):
    """A role that is redefined ends the sessions of all who have it, and of nobody else."""
    painter = ["fundamental_generate_tab_access", "basic_image_generation", "model_params"]
    role = people.role("watched", [*painter, "view_backends_list"])
    case, outsider = Case(people, role), Watched(people.client())
    people.role("watched", painter)

    for watched in (case.first, case.second):
        watched.ends()
    outsider.stays()
    assert "bad_permissions" == log_in(people.server, case.name).post("ListBackends")["error_id"]
    outsider.client.post("InterruptAll", other_sessions=True)


def test_a_deleted_role_ends_all_sessions_under_it(people):
    """So does a role that is deleted."""
    role = people.role(
        "passing", ["fundamental_generate_tab_access", "basic_image_generation", "model_params"]
    )
    case = Case(people, role)
    people.done("AdminDeleteRole", name=role)

    for watched in (case.first, case.second):
        watched.ends()


@pytest.mark.parametrize("cause", [logout, delete, lower_role, revoke], ids=lambda cause: cause.__name__)
def test_dead_logins_stay_dead(case, people, cause):
    """What ended opens no session any more with its cookie; what did not, does."""
    ending = cause(case)
    for watched in ending:
        watched.ends()
        answer = watched.client.raw("GetNewSession").json()
        # a change of roles ends sessions, not logins: the same login opens a session with the new rights
        assert (cause is lower_role) == ("session_id" in answer), answer


def test_a_restart_revives_no_dead_session(painting):
    """A session that ended is not valid after a restart either; one that did not is."""
    people = painting(SWARMKERNEL_SERVER__DRAIN_SECONDS="0.5")
    case = Case(people)
    for watched in logout(case):
        watched.ends()
    people.server.stop()
    people.server.start()
    dead, alive = (people.server.client(login=False) for _ in range(2))
    dead.session_id, alive.session_id = case.first.client.session_id, case.second.client.session_id

    assert "invalid_session_id" == dead.post("GetCurrentStatus")["error_id"]
    assert "status" in alive.post("GetCurrentStatus")


def working(people):
    """A user with two pictures in the making, and how to find the files that come of them."""
    case = Case(people, work=LONG | {"steps": 10, "donotsave": False})
    folder = people.server.data_dir / "Output" / case.name
    return case, lambda: list(folder.rglob("*.png"))


@pytest.mark.parametrize("cause", [logout, revoke_own, reset_password], ids=lambda cause: cause.__name__)
def test_work_goes_on(people, cause):
    """Work goes on after a logout, and is kept."""
    case, pictures = working(people)
    for watched in cause(case):
        watched.ends()
    within(10, pictures)


def test_work_stops(people):
    """Work stops when its user's rights change or the user is deleted, and nothing of it is kept."""
    made = {}
    for cause in (lower_role, delete):
        case, made[cause.__name__] = working(people)
        for watched in cause(case):
            watched.ends()
    time.sleep(3.5)
    assert {"lower_role": [], "delete": []} == {name: pictures() for name, pictures in made.items()}


def test_impersonation_ends_with_either(people):
    """A session of one who acts as another ends with the login of the one and with the rights of the other."""
    server, name = people.server, people.add()
    for end in ("logout", "role", "delete"):
        boss = log_in(server, "boss")
        acting = server.client(login=False)
        acting.session_id = boss.raw("GetNewSession", {"impersonateUser": name}).json()["session_id"]
        watched = Watched(acting)
        assert name == acting.post("GetMyUserData")["user_name"]
        if end == "logout":
            boss.post("Logout")
        elif end == "role":
            people.done("AdminChangeUserSettings", name=name, settings={"roles": ["poweruser"]})
        else:
            people.done("AdminDeleteUser", name=name)
        watched.ends()
