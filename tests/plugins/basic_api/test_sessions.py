"""Sessions, status, interrupts, and what other plugins add to them."""

import re

import pytest

from swarmkernel.testing import FakeDistributions, LiveServer

from .conftest import alone, on_path

HOOKS = """
from swarmkernel import Route, PUBLIC, Plugins, hookimpl
CALLS = []

@hookimpl(optionalhook=True)
def basic_status(services, session):
    return {"status": {"waiting_gens": 3, "loading_models": 0, "waiting_backends": 1, "live_gens": 2}}

@hookimpl(optionalhook=True)
def basic_new_session(session):
    return {"count_running": 4, "for": session.user_id}

@hookimpl(optionalhook=True)
def basic_interrupt(session, other_sessions):
    CALLS.append([session.id, other_sessions])

async def calls(call):
    "Tell the interrupts."
    return {"calls": CALLS}

@hookimpl
def swarm_routes():
    return [Route("Calls", calls, permission=PUBLIC)]
"""
RAISING = """
from swarmkernel import hookimpl

@hookimpl(optionalhook=True)
def basic_status():
    raise OSError("no status today")

@hookimpl(optionalhook=True)
def basic_new_session():
    raise OSError("no session today")

@hookimpl(optionalhook=True)
def basic_interrupt():
    raise OSError("no interrupt today")
"""
ACCOUNTS = """
from contextlib import asynccontextmanager
from swarmkernel import Accounts, Audit, Identity, PUBLIC, Route, hookimpl

class Book:
    async def identify(self, headers, peer):
        name = headers.get("x-name")
        return Identity(name, "token of " + name) if name and peer == "127.0.0.1" else None

    def admits(self, session):
        return True

    def may_act_as(self, user_id, other):
        return (user_id, other) == ("boss", "guest")

async def facts(call):
    "Tell who acts here, and the audit log."
    session = call.session
    entries = await call.get(Audit).entries()
    told = [[e.user_id, e.impersonator, e.action, e.subject, e.result] for e in entries]
    return {"who": [session.user_id, session.token_id, session.impersonator], "entries": told}

@hookimpl
def swarm_routes():
    from swarmkernel_basic_api.permissions import READ_SETTINGS
    return [Route("Facts", facts, permission=READ_SETTINGS)]

@hookimpl
def swarm_lifespan(services):
    return life(services)

@asynccontextmanager
async def life(services):
    services.add(Accounts, Book())
    yield

@hookimpl
def swarm_vote(session, permission):
    return True if permission.id == "read_user_settings" or session.user_id == "boss" else None
"""


def test_new_session(swarm_serve, alone, connect):
    """A session names its user, the server and every permission; two of them differ in the id alone."""
    client = connect(swarm_serve(**alone()))
    first, second = (client.raw("GetNewSession", {"session_id": "stale", "context": 5}) for _ in "ab")

    assert 200 == first.status_code
    answer = first.json()
    assert re.fullmatch("[0-9a-f]{40}", answer["session_id"])
    assert ("local", True, 0) == (answer["user_id"], answer["output_append_user"], answer["count_running"])
    assert {"*", "manage_presets", "basic_image_generation", "user_tab"} <= set(answer["permissions"])
    assert answer["session_id"] != second.json()["session_id"]
    assert {**answer, "session_id": ""} == {**second.json(), "session_id": ""}


def test_user_header_is_ignored_by_default(swarm_serve, alone, connect):
    """Without the setting, a header cannot choose the user."""
    client = connect(swarm_serve(**alone()))
    answer = client.raw("GetNewSession", headers={"X-SWARM-USER_ID": "bob"}).json()

    assert "local" == answer["user_id"]


def test_trusted_user_header(server, connect):
    """With the setting it can, and the id is cleaned."""
    answer = connect(server).raw("GetNewSession", headers={"X-SWARM-USER_ID": "B/o.b"}).json()

    assert "bob" == answer["user_id"]


@pytest.mark.parametrize(
    ("expected", "target"), [("bad_impersonate", "bob"), (None, None), (None, ""), (None, "LOCAL")]
)
def test_impersonation(server, expected, target, connect):
    """Without accounts nobody acts as another user; null and oneself are nothing."""
    answer = connect(server).post("GetNewSession", impersonateUser=target)

    assert expected == answer.get("error_id")
    assert (expected is None) == ("session_id" in answer)


@pytest.mark.parametrize("legacy", [True, "yes", {"a": 1}, None])
def test_status_without_other_plugins(client, legacy):
    """The status is all zeros and says that there are no backends; the older parameter is ignored."""
    answer = client.post("GetCurrentStatus", do_debug=legacy)

    expected = {"waiting_gens": 0, "loading_models": 0, "waiting_backends": 0, "live_gens": 0}
    assert expected == answer["status"]
    assert [] == answer["supported_features"]
    backends = answer["backend_status"]
    assert ("empty", "error", False) == (backends["status"], backends["class"], backends["any_loading"])


@pytest.mark.parametrize("others", [True, "false", None])
def test_interrupt_without_other_plugins(client, others):
    """An interrupt succeeds also when there is nothing to interrupt."""
    assert {"success": True} == client.post("InterruptAll", other_sessions=others)


def test_hooks_of_other_plugins(swarm_serve, swarm_dists, alone, connect):
    """Other plugins tell parts of the status and of new sessions, and hear of interrupts; one that raises is left out."""
    swarm_dists.add("aaa_raising", RAISING)
    swarm_dists.add("hooks", HOOKS)
    server = swarm_serve(**alone())
    client = connect(server)

    session = client.post("GetNewSession")
    assert (4, "local") == (session["count_running"], session["for"])
    status = client.post("GetCurrentStatus")
    assert 3 == status["status"]["waiting_gens"]
    assert "empty" == status["backend_status"]["status"]
    assert {"success": True} == client.post("InterruptAll")
    assert {"success": True} == client.post("InterruptAll", other_sessions=True)
    assert {"calls": [[client.session_id, False], [client.session_id, True]]} == client.post("Calls")
    assert "status today" in server.wait_for_log("no status today")


def test_accounts_decide(swarm_serve, swarm_dists, alone, connect):
    """Where a plugin knows accounts, it says who is there and what they may; basic_api abstains."""
    swarm_dists.add("book", ACCOUNTS)
    caller = connect(swarm_serve(**alone()), session=False)
    refused = caller.raw("GetNewSession").json()
    assert "not_logged_in" == refused["error_id"]
    assert "session_id" not in refused
    guest = caller.raw("GetNewSession", headers={"X-Name": "guest"}).json()
    assert ("guest", ["read_user_settings"]) == (guest["user_id"], guest["permissions"])
    caller.session_id = guest["session_id"]
    assert "settings" in caller.post("GetUserSettings")
    assert "bad_permissions" == caller.post("GetCurrentStatus")["error_id"]
    boss = caller.raw("GetNewSession", headers={"X-Name": "boss"}).json()
    assert "*" in boss["permissions"]


@pytest.fixture(name="book", scope="module")
def _book(tmp_path_factory):
    """A server with accounts of a plugin."""
    folder = tmp_path_factory.mktemp("dists")
    FakeDistributions(folder).add("book", ACCOUNTS)
    with LiveServer(tmp_path_factory.mktemp("data"), env=alone(**on_path(folder))) as server:
        yield server


@pytest.mark.parametrize("target", ["guest", " GUEST "])
def test_acting_as_another(book, connect, target):
    """Who may act as another gets that one's id and permissions; session and audit log know who really acts."""
    client = connect(book, session=False)
    answer = client.raw("GetNewSession", {"impersonateUser": target}, headers={"X-Name": "boss"}).json()
    client.session_id = answer["session_id"]
    facts = client.post("Facts")

    assert ("guest", ["read_user_settings"]) == (answer["user_id"], answer["permissions"])
    assert ["guest", "token of boss", "boss"] == facts["who"]
    assert ["boss", None, "Impersonate", {"user": "guest"}, "ok"] == facts["entries"][0]


@pytest.mark.parametrize("target", ["boss", "nobody", "a/b", "guest2", "\x00", "x" * 5000])
def test_acting_as_who_one_may_not_be(book, connect, target):
    """Without the right to, nobody acts as another user, known or not; the attempt is in the audit log."""
    client = connect(book, session=False)
    refused = client.raw("GetNewSession", {"impersonateUser": target}, headers={"X-Name": "guest"}).json()
    client.session_id = client.raw("GetNewSession", headers={"X-Name": "guest"}).json()["session_id"]

    assert {"error": "You may not act as that user.", "error_id": "bad_impersonate"} == refused
    expected = ["guest", None, "Impersonate", {"user": target[:200]}, "bad_impersonate"]
    assert expected == client.post("Facts")["entries"][0]


def test_nobody_acts_as_another(book, connect):
    """Who is not logged in hears that, whoever they want to be."""
    refused = connect(book, session=False).raw("GetNewSession", {"impersonateUser": "guest"}).json()

    assert "not_logged_in" == refused["error_id"]


def test_files_need_a_caller_with_rights(book, connect):
    """Pictures and sounds are not for who is not logged in, nor for who lacks the right to the page they are on."""
    client = connect(book, session=False)
    for path in ("/ViewSpecial/Preset/x", "/Audio/x.wav"):
        answers = [client.http.get(path, headers=h) for h in ({}, {"X-Name": "guest"}, {"X-Name": "boss"})]
        found = [(a.status_code, a.json()["error_id"]) for a in answers]

        assert [(400, "invalid_user"), (400, "unauthorized"), (404, "file_not_found")] == found


def test_debug_message(server, client):
    """A message is one line of the log, cut, without control characters."""
    answer = client.post("ServerDebugMessage", message="hello\n\x1b[31mERROR forged\u202e" + "x" * 5000)

    assert {"success": True} == answer
    line = server.wait_for_log("hello")
    assert "hello  [31mERROR forged x" in line
    assert "test_debug_message" in line
    assert len(line) < 2200
