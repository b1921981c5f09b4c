"""
The black-box checks of the network API, numbered as in its specification, on a server without accounts.

Those with accounts (26, 27, 28, 30) are in `test_accounts`.
"""

import base64
import contextlib
import io
import json
import os
import re
import threading
import time

import pytest
from PIL import Image
from websockets.sync.client import connect

from swarmkernel.testing import Client, FakeDistributions, LiveServer

LEVEL = {"status", "class", "message", "any_loading"}
#: So that a server has no backend by itself.
NO_ENGINE = ["--disable", "backends_torch", "--disable", "backends_onnx"]


@pytest.fixture(name="bare_server", scope="module")
def _bare_server(tmp_path_factory):
    """A server without any backend type of its own, so that it has no backends."""
    with LiveServer(tmp_path_factory.mktemp("bare"), NO_ENGINE) as server:
        yield server


@pytest.fixture(name="bare")
def _bare(bare_server):
    """A session of its own on that server."""
    return bare_server.client()


def told(response):
    """Status and error id."""
    return response.status_code, response.json().get("error_id")


def test_1_and_2_new_session(shared):
    """1, 2: GetNewSession in any letter case has all keys; with a trailing slash it is another route."""
    client = shared.client(login=False)
    answer = client.raw("GetNewSession").json()
    assert re.fullmatch("[0-9a-f]{40}", answer["session_id"])
    assert "local" == answer["user_id"]
    assert {"output_append_user", "version", "server_id", "count_running"} <= answer.keys()
    assert "*" in answer["permissions"]
    assert 200 == client.http.post("/api/getnewsession", json={"session_id": "stale", "x": 1}).status_code
    assert 400 == client.http.post("/API/GetNewSession/", json={}).status_code


def test_parameters_are_shown(client):
    """A fresh install announces every feature that its parameters wait for, so that clients show them all."""
    wanted = {param["feature_flag"] for param in client.post("ListT2IParams")["list"]} - {None}
    announced = set(client.post("GetCurrentStatus")["supported_features"])
    assert {"comfyui", "variation_seed"} == wanted == wanted & announced


def test_3_get(shared):
    """3: a GET leads to a page."""
    response = shared.client(login=False).http.get("/API/GetNewSession")
    assert (302, "/Error/NoGetAPI") == (response.status_code, response.headers["location"])


def test_4_to_6_bodies(shared):
    """4, 5, 6: content types, empty bodies, bodies that are no objects."""
    http = shared.client(login=False).http
    for kind, status in (
        ("text/plain", 400),
        ("application/json; charset=utf-8", 200),
        ("application/vnd.x+json", 200),
    ):
        assert (
            status
            == http.post("/API/GetNewSession", content=b"{}", headers={"content-type": kind}).status_code
        )
    for body in (b"", b"[]", b"{"):
        response = http.post("/API/GetNewSession", content=body, headers={"content-type": "application/json"})
        assert (400, "basic_api") == told(response)


def test_7_and_8_sessions(client):
    """7, 8: the session comes before the route, the body's id before the header's."""
    stranger = Client(client.url)
    good = {"x-session-id": client.session_id}
    assert (400, "basic_api") == told(stranger.raw("GetCurrentStatus"))
    assert (401, "invalid_session_id") == told(stranger.raw("GetCurrentStatus", {"session_id": "bad"}))
    assert 200 == stranger.raw("GetCurrentStatus", headers=good).status_code
    assert 401 == stranger.raw("GetCurrentStatus", {"session_id": None}, headers=good).status_code
    assert (400, "bad_route") == told(client.raw("Nope", {"session_id": client.session_id}))
    assert (400, "basic_api") == told(stranger.raw("Nope"))
    stranger.close()


def test_9_and_10_kinds(client):
    """9, 10: the wrong kind of call, and an unknown route over a socket."""
    body = {"session_id": client.session_id}
    for route in ("InstallConfirmWS", "GenerateText2ImageWS"):
        assert (400, "bad_request_method") == told(client.raw(route, body))
    for route, error_id in (("GetCurrentStatus", "bad_request_method"), ("Nope", "bad_route")):
        with connect(client.url.replace("http", "ws") + f"/API/{route}", proxy=None) as ws:
            ws.send(json.dumps(body))
            assert [error_id] == [json.loads(m)["error_id"] for m in ws]
            assert 1000 == ws.close_code


def test_11_to_13_and_32_without_backends(bare):
    """11, 12, 13, 32: parameter errors, and a server without backends."""
    for body in ({}, {"backend_id": "x"}):
        response = bare.raw("DeleteBackend", {"session_id": bare.session_id, **body})
        assert 200 == response.status_code
        assert "backend_id" in response.json()["error"]
    assert {"result": "Already didn't exist."} == bare.post("DeleteBackend", backend_id="5")
    assert "error" in bare.post("ToggleBackend", backend_id=0, enabled="TRUE")
    status = bare.post("GetCurrentStatus")["backend_status"]
    assert LEVEL == status.keys()
    assert ("empty", "error", False) == (status["status"], status["class"], status["any_loading"])
    assert {"result": False, "count": 0} == bare.post("FreeBackendMemory")
    assert {} == bare.post("ListBackends")


SYNTHETIC = """
import attrs
from swarmkernel_backend_api import hookimpl
from swarmkernel_backend_api.testing.synthetic import SYNTHETIC
@hookimpl
def backend_types(): return [attrs.evolve(SYNTHETIC, in_process=True)]
"""


@pytest.fixture(name="synthetic_server", scope="module")
def _synthetic_server(tmp_path_factory):
    """A server without backends, and with a type whose backends start, fail or hang as they are told to."""
    folder = tmp_path_factory.mktemp("synthetic")
    FakeDistributions(folder).add("synthetic", SYNTHETIC, requires=["swarmkernel", "swarmkernel-backend-api"])
    env = {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}
    with LiveServer(tmp_path_factory.mktemp("data"), NO_ENGINE, env) as server:
        yield server


@pytest.fixture(name="synthetic")
def _synthetic(synthetic_server):
    """A session there and how to add a backend; those that a test added go with it."""
    client = synthetic_server.client()

    def add(**settings):
        number = client.post("AddNewBackend", type_id="synthetic")["id"]
        if settings:
            edited = client.post("EditBackend", backend_id=number, title="t", settings=settings)
            assert "error" not in edited, edited
        return number

    yield client, add
    for number in client.post("ListBackends"):
        client.post("DeleteBackend", backend_id=number)


def settled(client, wanted, timeout=30):
    """The status of all backends together, once it is what is waited for."""
    until = time.monotonic() + timeout
    while (found := client.post("GetCurrentStatus")["backend_status"])["status"] != wanted:
        assert time.monotonic() < until, (found, client.post("ListBackends"))
        time.sleep(0.1)
    return found


def test_12_and_14_states(synthetic):
    """12, 14: booleans in text; one disabled backend, one that failed beside one that runs, one that still loads."""
    client, add = synthetic
    number = add()
    settled(client, "running")
    assert {"result": "Success."} == client.post("ToggleBackend", backend_id=number, enabled="FALSE")
    settled(client, "all_disabled")
    assert {"result": "Success."} == client.post("ToggleBackend", backend_id=str(number), enabled="TRUE")
    assert {"result": "No change."} == client.post("ToggleBackend", backend_id=number, enabled=1)
    settled(client, "running")
    failing = add(verb="raise")
    assert (LEVEL, "error") == ((found := settled(client, "errored")).keys(), found["class"])
    assert {"result": "Deleted."} == client.post("DeleteBackend", backend_id=failing)
    settled(client, "running")
    add(start_seconds=60)
    assert settled(client, "some_loading")["any_loading"] is True


def test_15_and_17_numbers(synthetic):
    """15, 17: ids count up and are not given twice; one can be chosen, unless it is taken."""
    client, add = synthetic
    first = add()
    assert first + 1 == add()
    assert {"result": "Deleted."} == client.post("DeleteBackend", backend_id=first + 1)
    assert first + 2 == add()
    edit = {"title": "t", "settings": {}}
    assert "error" in client.post("EditBackend", backend_id=first + 2, new_id=first, **edit)
    assert first + 3 == client.post("EditBackend", backend_id=first + 2, new_id=first + 3, **edit)["id"]
    assert {str(first), str(first + 3)} == client.post("ListBackends").keys()
    assert add() not in {first, first + 2, first + 3}
    assert "error" in client.post("AddNewBackend", type_id="nope")


def test_16_secrets(synthetic):
    """16: the list is a map of text keys and objects with numeric ids; a secret is hidden, and kept if sent back so."""
    client, add = synthetic
    number = add(ApiKey="canary", Colour="red")
    (shown,) = client.post("ListBackends").values()
    assert [str(number)] == list(client.post("ListBackends"))
    assert (number, "\t<secret>", "red") == (
        shown["id"],
        *(shown["settings"][k] for k in ("ApiKey", "Colour")),
    )
    again = shown["settings"] | {"Colour": "blue"}
    edited = client.post("EditBackend", backend_id=number, title="t", settings=again)
    assert ("\t<secret>", "blue") == tuple(edited["settings"][k] for k in ("ApiKey", "Colour"))
    assert "canary" not in json.dumps(client.post("ListBackends"))
    edited = client.post("EditBackend", backend_id=number, title="t", settings={"ApiKey": ""})
    assert "" == edited["settings"]["ApiKey"]


def test_18_to_20_presets(bare):
    """18, 19, 20: presets are added once, renamed to the end, copied with numbers, and keep their pictures."""
    picture = io.BytesIO()
    Image.new("RGB", (300, 400), "red").save(picture, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(picture.getvalue()).decode()
    first = {"title": "a", "description": "", "param_map": {"steps": "5"}}
    assert {"success": True} == bare.post("AddNewPreset", **first, preview_image=url)
    assert "preset_fail" in bare.post("AddNewPreset", **first)
    bare.post("AddNewPreset", title="b", description="", param_map={})
    shown = {p["title"]: p["preview_image"] for p in bare.post("GetMyUserData")["presets"]}
    assert shown["a"].startswith("/ViewSpecial/Preset/")
    before = bare.http.get(shown["a"])
    assert "JPEG" == Image.open(io.BytesIO(before.content)).format
    renamed = {**first, "title": "c", "is_edit": True, "editing": "a", "preview_image": shown["a"]}
    assert {"success": True} == bare.post("AddNewPreset", **renamed)
    presets = bare.post("GetMyUserData")["presets"]
    assert ["b", "c"] == [p["title"] for p in presets]
    assert before.content == bare.http.get(presets[1]["preview_image"]).content
    assert {"success": False} == bare.post("DeletePreset", preset="zzz")
    for _ in range(2):
        bare.post("DuplicatePreset", preset="b")
    assert {"b (2)", "b (3)"} <= {p["title"] for p in bare.post("GetMyUserData")["presets"]}
    assert {"success": True} == bare.post("DeletePreset", preset="b")


def test_21_and_22_user_settings(bare):
    """21, 22, 33: settings change, restricted ones do not, nesting is not unwrapped."""
    answer = bare.post("ChangeUserSettings", settings={"FileFormat.ImageFormat": "JPG", "roles": ["guest"]})
    assert answer["success"] is True
    settings = bare.post("GetUserSettings")["settings"]
    assert "JPG" == settings["fileformat"]["value"]["imageformat"]["value"]
    assert "roles" not in settings
    assert "defaultsdxlvae" in settings["vaes"]["value"]
    bare.post("ChangeUserSettings", rawData={"settings": {"FileFormat.ImageFormat": "PNG"}})
    settings = bare.post("GetUserSettings")["settings"]
    assert "JPG" == settings["fileformat"]["value"]["imageformat"]["value"]


def test_23_api_keys(bare):
    """23: keys are set, shown as a date only, and removed; the older names are the same routes."""
    assert {"success": True} == bare.post("SetAPIKey", keyType="civitai_api", key="canary")
    status = bare.post("GetAPIKeyStatus", keyType="civitai_api")
    assert re.fullmatch(r"last updated \d{4}-\d\d-\d\d \d\d:\d\d", status["status"])
    bare.post("SetAPIKey", keyType="civitai_api", key="none")
    assert {"status": "not set"} == bare.post("GetAPIKeyStatus", keyType="civitai_api")
    assert "error" in bare.post("SetAPIKey", keyType="nope", key="x")
    bare.post("SetStabilityAPIKey", key="x")
    assert bare.post("GetStabilityAPIKeyStatus")["status"].startswith("last updated")
    assert bare.post("GetAPIKeyStatus")["status"].startswith("last updated")


def test_24_and_25_languages_and_accounts(bare):
    """24, 25: an unknown language is an error, and so are account routes while accounts are off."""
    assert {"code", "name", "local_name", "keys"} == bare.post("GetLanguage", language="de")[
        "language"
    ].keys()
    assert "error" in bare.post("GetLanguage", language="xx")
    for route, body in {
        "Logout": {},
        "ListMyAuthTokens": {},
        "CreateAuthToken": {"reason": "a test"},
        "RevokeMyAuthToken": {"tokenId": "x"},
    }.items():
        response = bare.raw(route, {"session_id": bare.session_id, **body})
        assert (200, True) == (response.status_code, bool(response.json()["error"])), route
    for route in ("Login", "RegisterBasic"):
        answer = bare.raw(route, {"username": "someone", "password": "long enough"})
        assert (200, True) == (answer.status_code, "error_id" in answer.json())
        assert "set-cookie" not in answer.headers


def test_28_impersonation(bare):
    """28: nobody can impersonate without the right to."""
    assert "bad_impersonate" == bare.raw("GetNewSession", {"impersonateUser": "other"}).json()["error_id"]
    assert "session_id" in bare.raw("GetNewSession", {"impersonateUser": None}).json()


def test_29_interrupts(shared, client):
    """29: InterruptAll ends the work of the calling session only; with `other_sessions`, of all the user's."""
    other = shared.client()
    assert {"success": True} == other.post("InterruptAll", other_sessions=False)
    for everything, made in ((False, True), ("true", False)):
        with long_work(client) as frames:
            assert {"success": True} == other.post("InterruptAll", other_sessions=everything)
        assert made == any("image" in frame for frame in frames), frames
        assert made != any("interrupt" in frame.get("error", "") for frame in frames), frames


@contextlib.contextmanager
def long_work(client):
    """Generate while something else happens; what the socket said, once all is over."""
    frames, started = [], threading.Event()

    def generate():
        ask = {"images": 1, "steps": 30, "prompt": "a red circle", "donotsave": True}
        with client.socket("GenerateText2ImageWS", **ask) as ws:
            for message in ws:
                frames.append(json.loads(message))
                if "gen_progress" in frames[-1]:
                    started.set()

    thread = threading.Thread(target=generate)
    thread.start()
    assert started.wait(60)
    yield frames
    thread.join(60)
    assert not thread.is_alive()


def test_31_locked_settings(swarm_serve):
    """31: with settings locked the five editing routes answer an error, and freeing memory works."""
    client = swarm_serve(SWARMKERNEL_BACKEND_API__LOCK_SETTINGS="true").client()
    calls = {
        "AddNewBackend": {"type_id": "torch"},
        "DeleteBackend": {"backend_id": 0},
        "ToggleBackend": {"backend_id": 0, "enabled": False},
        "EditBackend": {"backend_id": 0, "title": "", "settings": {}},
        "RestartBackends": {},
    }

    assert [] == [name for name, body in calls.items() if "error" not in client.post(name, **body)]
    assert "result" in client.post("FreeBackendMemory")


def test_34_preflight(swarm_serve):
    """34: with CORS configured OPTIONS is answered 204 with three headers."""
    client = swarm_serve(*NO_ENGINE, SWARMKERNEL_SERVER__ALLOW_ORIGIN="*").client()
    response = client.http.options("/API/x", headers={"origin": "https://elsewhere.example"})

    assert 204 == response.status_code
    assert {"*", "3600"} == {v for k, v in response.headers.items() if k.startswith("access-control-")}


def test_routes_refuse_without_permission(swarm_dists, swarm_serve):
    """Every route refuses a session whose user lacks its permission, with bad_permissions and nothing done."""
    veto = """
from swarmkernel import hookimpl
@hookimpl
def swarm_vote(session, permission): return False
"""
    swarm_dists.add("veto", veto)
    server = swarm_serve(*NO_ENGINE)
    client = server.client()
    document = client.http.get("/openapi.json").json()
    routes = [path.removeprefix("/API/") for path in document["paths"]]
    guarded = [r for r in routes if r not in {"GetNewSession", "Login", "RegisterBasic"}]

    assert len(guarded) > 25
    wrong = {r: client.raw(r, {"session_id": client.session_id}) for r in guarded}
    assert {} == {r: a.text for r, a in wrong.items() if (400, "bad_permissions") != told(a)}
    for route in ("GenerateText2ImageWS", "SelectModelWS"):
        assert ["bad_permissions"] == [f["error_id"] for f in client.stream(route, images=1, model="starter")]


INSTALL = {"theme": "modern_dark", "installed_for": "just_self", "backend": "none", "models": "none"}
INSTALL |= {"install_amd": False, "language": "en"}


@pytest.mark.parametrize("key", ["", "x", None, 5, [], {"a": 1}, True])
def test_parameters_of_the_older_dialect(bare, key):
    """What only older clients send is taken, whatever it holds, and does nothing."""
    assert "status" in bare.post("GetCurrentStatus", do_debug=key, stability_api_key=key)


def test_an_installation_in_the_older_dialect(swarm_serve):
    """The same when they install, which they can do once."""
    client = swarm_serve(*NO_ENGINE, "--disable", "starter_model").client()
    frames = client.stream("InstallConfirmWS", **INSTALL, stability_api_key="x")

    assert {"success": True} == frames[-1], frames
    assert "error" in client.stream("InstallConfirmWS", **INSTALL)[-1]
