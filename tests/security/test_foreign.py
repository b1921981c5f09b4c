"""What belongs to one user is, for another, as good as missing: same answers, and nothing of it ever changes."""

import base64
import io
import json
import re

import pytest
from PIL import Image

from tests.security.people import ask, log_in, routes_of, within

TITLE = "canary preset"
KEY = "canary api key"
MISSING = "mssing preset"
PAINT = {"images": 1, "steps": 1, "prompt": "canary prompt", "width": 64, "height": 64}


@pytest.fixture(name="people", scope="module")
def _people(painting):
    """A server with a backend, and everybody on it."""
    return painting()


@pytest.fixture(name="routes", scope="module")
def _routes(people):
    """All routes of the installation."""
    return routes_of(people.server)


def picture() -> str:
    """A small JPEG as a data URI."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(stream, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


@pytest.fixture(name="alice", scope="module")
def _alice(people):
    """A user with one of everything."""
    alice = log_in(people.server, people.add("user", "alice"))
    preset = {
        "title": TITLE,
        "description": "canary",
        "param_map": {"steps": "7"},
        "preview_image": picture(),
    }
    assert {"success": True} == alice.post("AddNewPreset", **preset)
    assert alice.post("ChangeUserSettings", settings={"language": "de", "theme": "solarized"})["success"]
    assert {"success": True} == alice.post("SetAPIKey", keyType="civitai_api", key=KEY)
    assert {"success": True} == alice.post("SetStarredModels", LoRA=["canary"])
    assert {"success": True} == alice.post("SetPresetLinks", LoRA={"x": [TITLE]})
    assert {"success": True} == alice.post("SetParamEdits", edits={"groups": {"canary": {}}})
    assert "token" in alice.post("CreateAuthToken", reason="canary")
    assert alice.post("GenerateText2Image", **PAINT)["images"]
    return alice


@pytest.fixture(name="url", scope="module")
def _url(alice):
    """Where one of her pictures is."""
    (url,) = alice.post("GenerateText2Image", **PAINT)["images"]
    assert 200 == alice.http.get(f"/{url}").status_code
    return url


@pytest.fixture(name="bob", params=["user", "poweruser"])
def _bob(request, people):
    """Somebody else, of the same role or a higher one that may not see what is others'."""
    return people.client(request.param)


@pytest.fixture(name="unchanged")
def _unchanged(alice, people, url):
    """Whatever a test does, everything of hers is as it was."""
    before = everything(alice, people)
    yield
    assert before == everything(alice, people)
    assert 200 == alice.http.get(f"/{url}").status_code


def everything(alice, people) -> dict:
    """All that the server keeps for her."""
    found = {name: alice.post(name) for name in ("GetMyUserData", "GetUserSettings", "ExportUserPresets")}
    found |= {"key": alice.post("GetAPIKeyStatus", keyType="civitai_api")}
    found |= {"edits": alice.post("ListT2IParams")["param_edits"]}
    tokens = alice.post("ListMyAuthTokens")["tokens"]
    found |= {"tokens": [{k: v for k, v in t.items() if k != "last_active"} for t in tokens]}
    found |= {"info": people.owner.post("AdminGetUserInfo", name="alice")}
    folder = people.server.data_dir / "Output" / "alice"
    found |= {"files": {str(f): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}}
    assert found["files"]
    assert found["tokens"]
    return found


def same(answer, thing: str):
    """An answer without what it says back."""
    text = json.dumps(answer, sort_keys=True).replace(json.dumps(thing)[1:-1], "THING")
    return re.sub(r"[0-9a-f]{16,}|canary|mssing", "", text)


@pytest.mark.usefixtures("unchanged")
def test_presets(alice, bob):
    """Her preset can be neither changed, copied, deleted, exported, linked to nor used by him."""
    assert TITLE in [p["title"] for p in alice.post("ExportUserPresets")["presets"]]
    edit = {"description": "", "param_map": {}, "is_edit": True}
    for route, body in {
        "DuplicatePreset": lambda t: {"preset": t},
        "DeletePreset": lambda t: {"preset": t},
        "ExportUserPresets": lambda t: {"titles": [t]},
        "AddNewPreset": lambda t: {"title": t, "editing": t, **edit},
        "GenerateText2Image": lambda t: {**PAINT, "presets": [t], "donotsave": True},
    }.items():
        answers = [bob.post(route, **body(title)) for title in (TITLE, MISSING)]
        if route == "GenerateText2Image":
            answers = ["error" in a for a in answers]
        bob.post("DeletePreset", preset=TITLE)
        bob.post("DeletePreset", preset=MISSING)
        assert same(answers[0], TITLE) == same(answers[1], MISSING), route
    assert [] == bob.post("GetMyUserData")["presets"]


@pytest.mark.usefixtures("unchanged")
def test_preset_pictures(alice, bob):
    """Nor can he see its picture, by title, address, or her name in either."""
    (shown,) = [p["preview_image"] for p in alice.post("GetMyUserData")["presets"]]
    assert 200 == alice.http.get(shown).status_code
    for target, other in (
        (shown, shown.replace(TITLE.replace(" ", "%20"), MISSING)),
        (f"/ViewSpecial/Preset/{TITLE}", f"/ViewSpecial/Preset/{MISSING}"),
        (f"/ViewSpecial/Preset/alice/{TITLE}", f"/ViewSpecial/Preset/alice/{MISSING}"),
        (f"/ViewSpecial/Preset/../alice/{TITLE}", f"/ViewSpecial/Preset/../alice/{MISSING}"),
        (f"/ViewSpecial/Preset/alice%2f{TITLE}", f"/ViewSpecial/Preset/alice%2f{MISSING}"),
        (f"/ViewSpecial/Preset/alice///{TITLE}", f"/ViewSpecial/Preset/alice///{MISSING}"),
    ):
        found = [bob.http.get(t) for t in (target, other)]
        assert found[0].status_code in {400, 404}
        assert len({(f.status_code, f.text) for f in found}) == 1, target


@pytest.mark.usefixtures("unchanged")
def test_outputs(people, bob, url):
    """Her pictures are refused to him as files that are not there, and people who are not there, are."""
    path = url.removeprefix("View/alice/")
    assert path != url
    for targets in (
        (f"/{url}", "/View/alice/raw/none.png", f"/View/nobody/{path}", "/View/boss/x.png"),
        (f"/{url}?preview=true", "/View/alice/raw/none.png?preview=true"),
        (f"/Output/{path}", "/Output/raw/none.png"),
        (f"/Output/alice/{path}", "/Output/alice/raw/none.png"),
        (f"/Output/../alice/{path}", "/Output/../alice/raw/none.png"),
    ):
        found = [bob.http.get(target) for target in targets]
        assert {400, 404} >= {f.status_code for f in found}
        assert 1 == len({(f.status_code, f.text) for f in found}), targets
    for spelling in (
        "ALICE",
        "Alice",
        "alice%20",
        "alice.",
        "./alice",
        "%61lice",
        "bob/../alice",
        "alice%00",
    ):
        assert bob.http.get(f"/View/{spelling}/{path}").status_code in {400, 404}, spelling
    stranger = people.server.client(login=False)
    for headers in (
        {},
        {"x-swarm-user_id": "alice"},
        {"cookie": "swarm_user=alice"},
        {"x-session-id": "0" * 40},
    ):
        for target in (f"/{url}", "/View/alice/raw/none.png"):
            answer = stranger.http.get(target, headers=headers)
            assert (400, "invalid_user") == (answer.status_code, answer.json()["error_id"])


def test_who_may_see_outputs(people, url):
    """Who may see others' outputs does."""
    for role in ("admin", "owner"):
        assert 200 == people.client(role).http.get(f"/{url}").status_code


@pytest.mark.usefixtures("unchanged")
def test_tokens(alice, bob):
    """Her tokens are not listed to him, and he cannot revoke them: they are missing like any other."""
    ids = [t["id"] for t in alice.post("ListMyAuthTokens")["tokens"]]
    assert set(ids).isdisjoint(t["id"] for t in bob.post("ListMyAuthTokens")["tokens"])
    texts = [*ids, f"alice/{ids[0]}", f"../alice/{ids[0]}", f"{b'alice'.hex()}.{ids[0]}.{'0' * 32}", "0" * 32]
    answers = {same(bob.post("RevokeMyAuthToken", tokenId=text), text) for text in texts}
    assert 1 == len(answers)
    assert "error" in answers.pop()
    alice_hex = b"alice".hex()
    for cookie in (f"{alice_hex}.{ids[0]}.{'0' * 32}", f"{alice_hex}.{ids[0]}.", alice_hex, ids[0]):
        answer = bob.http.post(
            "/API/GetNewSession", json={}, headers={"cookie": f"swarm_token={cookie}"}
        ).json()
        assert "session_id" not in answer


@pytest.mark.usefixtures("unchanged")
def test_values(alice, bob):
    """Her API keys, settings, stars, links and edits are not his, and his are not hers."""
    assert {"status": "not set"} == bob.post("GetAPIKeyStatus", keyType="civitai_api")
    data = bob.post("GetMyUserData")
    assert [{}, {}, "en"] == [data[k] for k in ("starred_models", "model_preset_links", "language")]
    assert bob.post("ListT2IParams")["param_edits"] is None
    bob.post("SetAPIKey", keyType="civitai_api", key="none")
    bob.post("SetStarredModels", LoRA=["his"])
    bob.post("SetPresetLinks", LoRA={})
    bob.post("SetParamEdits", edits={})
    bob.post("ChangeUserSettings", settings={"language": "fr"})
    for name in ("alice", "user_id", "user", "username", "user_name", "owner", "target"):
        bob.post("GetMyUserData", **{name: "alice"})
        bob.post("ChangeUserSettings", settings={"language": "fr"}, **{name: "alice"})
        bob.post("SetAPIKey", keyType="civitai_api", key="his", **{name: "alice"})
    assert "alice" != bob.post("GetMyUserData", user_id="alice", user_name="alice")["user_name"]
    skipped = bob.post(
        "ChangeUserSettings", settings={"roles": ["owner"], "permissions": ["*"], "password": "x"}
    )
    assert {"roles", "permissions", "password"} == set(skipped["skipped"])
    assert "*" not in bob.raw("GetNewSession").json()["permissions"]
    assert alice.session_id


@pytest.mark.usefixtures("unchanged")
def test_running_work(people, alice, bob):
    """He neither sees her running work nor can interrupt it, in whichever session, over whichever route."""
    ask_for = PAINT | {"steps": 12, "prompt": "slower", "donotsave": True}
    with alice.socket("GenerateText2ImageWS", **ask_for) as ws:
        within(10, lambda: alice.post("GetCurrentStatus")["status"]["live_gens"] >= 0)
        assert json.loads(ws.recv(timeout=10))
        assert {0} == set(bob.post("GetCurrentStatus")["status"].values())
        for other in (True, False):
            assert {"success": True} == bob.post("InterruptAll", other_sessions=other)
        assert "bad_permissions" == bob.post("AdminInterruptUser", name="alice")["error_id"]
        frames = []
        while not any("image" in frame for frame in frames):
            frames.append(json.loads(ws.recv(timeout=20)))
            assert "error" not in frames[-1], frames[-1]
    assert people.owner.session_id


def test_acting_as(alice, bob):
    """He cannot act as her, nor as anybody: the answer is the same for those who are not there."""
    answers = [
        bob.raw("GetNewSession", {"impersonateUser": name}).json()
        for name in ("alice", "nobody", "boss", "local")
    ]
    assert {"bad_impersonate"} == {a["error_id"] for a in answers}
    assert 1 == len({a["error"] for a in answers})
    assert "session_id" in alice.raw("GetNewSession", {"impersonateUser": "alice"}).json()


@pytest.mark.usefixtures("unchanged")
def test_every_parameter_of_every_route(people, alice, routes, url):
    """Of every route, no text parameter tells her things from missing ones, or reaches them."""
    bob = people.client("poweruser")
    tokens = [t["id"] for t in alice.post("ListMyAuthTokens")["tokens"]]
    things = {
        TITLE: MISSING,
        tokens[0]: "f" * 32,
        url: url.replace("canary", "mssing"),
        url.removeprefix("View/alice/"): url.removeprefix("View/alice/").replace("canary", "mssing"),
        alice.session_id: "f" * 40,
    }
    likely = {"string": "x", "integer": 1, "number": 1.0, "boolean": True, "array": []}
    differing = {}
    for name, facts in routes.items():
        if facts["permission"] is None or name in {"Logout", "ChangePassword"} or "Select" in name:
            continue
        for parameter in (p for p, kind in facts["parameters"].items() if kind == "string"):
            for thing, missing in things.items():
                answers = []
                for given in (thing, missing):
                    body = {p: likely[kind] for p, kind in facts["parameters"].items()} | {"param_map": {}}
                    answers.append(same(ask(bob, name, facts, body | {parameter: given}), given))
                    for left in (given, "x"):
                        bob.post("DeletePreset", preset=left)
                if answers[0] != answers[1]:
                    differing[name, parameter, thing] = answers
    assert {} == differing


def test_a_name_that_is_given_again(people):
    """Whoever gets the name of a deleted user gets none of what was theirs, pictures included."""
    name = people.add("user", "phoenix")
    old = log_in(people.server, name)
    (url,) = old.post("GenerateText2Image", **PAINT)["images"]
    old.post("AddNewPreset", title=TITLE, description="", param_map={}, preview_image=picture())
    old.post("SetAPIKey", keyType="civitai_api", key=KEY)
    token = old.post("CreateAuthToken", reason="a program")["token"]
    cookie = old.http.cookies["swarm_token"]
    people.done("AdminDeleteUser", name=name)
    new = log_in(people.server, people.add("user", name))

    for text in (token, cookie):
        answer = people.server.client(login=False).raw(
            "GetNewSession", headers={"authorization": f"Bearer {text}"}
        )
        assert "not_logged_in" == answer.json()["error_id"]
    assert "invalid_session_id" == old.post("GetMyUserData")["error_id"]
    assert [] == new.post("GetMyUserData")["presets"]
    assert {"status": "not set"} == new.post("GetAPIKeyStatus", keyType="civitai_api")
    assert 404 == new.http.get(f"/ViewSpecial/Preset/{TITLE}").status_code
    assert 404 == new.http.get(f"/{url}").status_code
    assert 404 == new.http.get(f"/{url}?preview=true").status_code
