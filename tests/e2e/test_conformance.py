"""The black-box checks of the network API (numbered as in its specification) on a server without accounts."""

import base64
import io
import json
import re

import pytest
from PIL import Image
from websockets.sync.client import connect

from swarmkernel.testing import Client

LEVEL = {"status", "class", "message", "any_loading"}


@pytest.fixture(name="bare")
def _bare(swarm_serve):
    """A server without any backend type of its own, so that it has no backends."""
    return swarm_serve("--disable", "backends_torch").client()


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
    assert (400, "bad_request_method") == told(client.raw("GenerateText2ImageWS", body))
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


def test_14_to_17_backends(swarm_server):
    """14 to 17: states, ids, the list, edits and renumbering."""
    client = swarm_server.client()
    first = client.post("ListBackends")
    assert ["0"] == list(first)
    assert 0 == first["0"]["id"]
    assert {"result": "Success."} == client.post("ToggleBackend", backend_id=0, enabled="False")
    assert {"result": "No change."} == client.post("ToggleBackend", backend_id=0, enabled=False)
    assert "all_disabled" == _settled(client, "all_disabled")
    assert 1 == client.post("AddNewBackend", type_id="torch")["id"]
    client.post("EditBackend", backend_id=1, title="t", settings={"device": "cuda:99"})
    assert "errored" == _settled(client, "errored")
    assert "error" in client.post("EditBackend", backend_id=1, title="t", settings={}, new_id=0)
    assert 7 == client.post("EditBackend", backend_id=1, title="t", settings={}, new_id=7)["id"]
    assert {"result": "Deleted."} == client.post("DeleteBackend", backend_id=7)
    added = client.post("AddNewBackend", type_id="torch")["id"]
    assert added not in {0, 7}
    assert "error" in client.post("AddNewBackend", type_id="nope")


def _settled(client, wanted, timeout=60):
    import time

    until = time.monotonic() + timeout
    while (found := client.post("GetCurrentStatus")["backend_status"]["status"]) != wanted:
        if time.monotonic() > until:
            return found
        time.sleep(0.2)
    return found


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
    for route in ("Logout", "ListMyAuthTokens", "CreateAuthToken"):
        assert "error" in bare.post(route)


def test_28_impersonation(bare):
    """28: nobody can impersonate without the right to."""
    assert "bad_impersonate" == bare.raw("GetNewSession", {"impersonateUser": "other"}).json()["error_id"]
    assert "session_id" in bare.raw("GetNewSession", {"impersonateUser": None}).json()


def test_29_interrupts(client):
    """29: InterruptAll is answered whether or not anything runs."""
    assert {"success": True} == client.post("InterruptAll", other_sessions=False)
    assert {"success": True} == client.post("InterruptAll", other_sessions="true")


def test_30_sessions_survive(swarm_serve, tmp_path):
    """30: a session is valid after a restart."""
    server = swarm_serve("--disable", "backends_torch", data_dir=tmp_path / "kept")
    session = server.client().session_id
    server.stop()
    server.start()
    client = server.client(login=False)
    client.session_id = session

    assert "status" in client.post("GetCurrentStatus")


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
    client = swarm_serve("--disable", "backends_torch", SWARMKERNEL_SERVER__ALLOW_ORIGIN="*").client()
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
    server = swarm_serve()
    client = server.client()
    document = client.http.get("/openapi.json").json()
    routes = [path.removeprefix("/API/") for path in document["paths"]]
    guarded = [r for r in routes if r != "GetNewSession"]

    assert len(guarded) > 25
    wrong = {r: client.raw(r, {"session_id": client.session_id}) for r in guarded}
    assert {} == {r: a.text for r, a in wrong.items() if (400, "bad_permissions") != told(a)}
    for route in ("GenerateText2ImageWS", "SelectModelWS"):
        assert ["bad_permissions"] == [f["error_id"] for f in client.stream(route, images=1, model="starter")]
