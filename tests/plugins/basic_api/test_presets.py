"""Presets over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from PIL import Image


def add(client, title="one", **more):
    """Save a preset."""
    return client.post(
        "AddNewPreset", **{"title": title, "description": "d", "param_map": {"steps": 20}, **more}
    )


def listed(client):
    """Return the presets of the client's user."""
    return client.post("GetMyUserData")["presets"]


def titles(client):
    """Return the titles of the client's presets in their order."""
    return [preset["title"] for preset in listed(client)]


def fetch(client, url):
    """GET what a preset's URL names, as the client's session."""
    return client.http.get(url, headers={"X-Session-ID": client.session_id})


def test_add(client):
    """A saved preset is listed with its values as text."""
    values = {
        "steps": 20,
        "cfgscale": 7.0,
        "eta": 0.5,
        "flag": True,
        "none": None,
        "loras": ["a", "b"],
        "x": {"y": 1},
    }
    assert {"success": True} == add(client, "My Folder/One", param_map=values, is_starred=True)

    expected = {
        "author": "test_add",
        "title": "My Folder/One",
        "description": "d",
        "preview_image": "imgs/model_placeholder.jpg",
        "is_starred": True,
        "param_map": {
            "steps": "20",
            "cfgscale": "7",
            "eta": "0.5",
            "flag": "true",
            "none": "",
            "loras": "a,b",
            "x": '{"y": 1}',
        },
    }
    assert [expected] == listed(client)


def test_title_is_cleaned_and_unique(client):
    """Titles are cleaned, and taken in any letter case."""
    add(client, "../One?")

    assert ["One"] == titles(client)
    assert set(add(client, "oNE")) == {"preset_fail"}


@pytest.mark.parametrize(
    "more",
    [
        {"title": " ./ "},
        {"title": "x" * 201},
        {"description": "x" * 20_001},
        {"param_map": None},
        {"param_map": ["steps"]},
        {"param_map": {str(number): 1 for number in range(1001)}},
        {"param_map": {"prompt": "x" * 200_001}},
        {"preview_image": "/Output/raw/x.png"},
        {"preview_image": "data:image/png;base64,AAAA"},
        {"preview_image": "data:image/jpeg;base64,AAAA"},
        {"is_edit": True},
        {"is_edit": True, "editing": "unknown"},
        {"is_edit": True, "editing": None},
    ],
)
def test_refused(client, more):
    """What cannot be saved is told as preset_fail, and nothing is saved."""
    assert {"preset_fail"} == set(add(client, **more))
    assert [] == listed(client)


def test_missing_parameters(client):
    """A preset without title is an error that names the parameter."""
    answer = client.post("AddNewPreset", description="d", param_map={})

    assert "missing_parameter" == answer["error_id"]
    assert "title" in answer["error"]


def test_picture(client, jpeg):
    """A picture is made small, served to its owner, and kept when the client echoes its URL."""
    add(client, "a b/ü%", preview_image=jpeg())
    url = listed(client)[0]["preview_image"]
    assert url.startswith("/ViewSpecial/Preset/a%20b/")

    reply = fetch(client, url)
    assert (200, "image/jpeg") == (reply.status_code, reply.headers["content-type"])
    assert "nosniff" == reply.headers["x-content-type-options"]
    assert (256, 512) == Image.open(BytesIO(reply.content)).size
    for given in (url, None, ""):
        edit = {"is_edit": True, "editing": "A B/Ü%", "description": "new", "preview_image": given}
        assert {"success": True} == add(client, "a b/ü%", **edit)
        assert reply.content == fetch(client, listed(client)[0]["preview_image"]).content
    assert url != listed(client)[0]["preview_image"]
    exported = client.post("ExportUserPresets")["presets"][0]
    assert exported["preview_image"].startswith("data:image/jpeg;base64,")


def test_picture_can_be_taken_away(client, jpeg):
    """The placeholder's name removes a picture."""
    add(client, preview_image=jpeg())
    url = listed(client)[0]["preview_image"]
    add(client, is_edit=True, editing="one", preview_image="imgs/model_placeholder.jpg")

    assert "imgs/model_placeholder.jpg" == listed(client)[0]["preview_image"]
    assert 404 == fetch(client, url).status_code


def test_edit(client, jpeg):
    """An edit keeps a preset's place; a rename moves it to the end with its picture."""
    for title in ("one", "two", "three"):
        add(client, title, preview_image=jpeg())
    assert {"success": True} == add(client, "ONE", is_edit=True, editing="one", description="new")
    assert ["ONE", "two", "three"] == titles(client)
    assert "new" == listed(client)[0]["description"]

    assert {"success": True} == add(client, "four", is_edit=True, editing="two")
    assert ["ONE", "three", "four"] == titles(client)
    assert 200 == fetch(client, listed(client)[2]["preview_image"]).status_code


def test_edit_spares_other_presets(client):
    """An edit cannot take another preset's title; both stay as they were."""
    add(client, "one", description="1")
    add(client, "two", description="2")

    assert {"preset_fail"} == set(add(client, "TWO", is_edit=True, editing="one"))
    assert [("one", "1"), ("two", "2")] == [(p["title"], p["description"]) for p in listed(client)]


def test_duplicate(client, jpeg):
    """Copies are numbered from two, with the picture; an unknown one is told as preset_fail."""
    add(client, "one", preview_image=jpeg())
    for _ in "ab":
        assert {"success": True} == client.post("DuplicatePreset", preset="One")

    assert ["one", "One (2)", "One (3)"] == titles(client)
    assert 200 == fetch(client, listed(client)[2]["preview_image"]).status_code
    assert {"preset_fail"} == set(client.post("DuplicatePreset", preset="two"))


def test_delete(client, jpeg):
    """A deleted preset is gone with its picture; deleting it again is no success and no error."""
    add(client, preview_image=jpeg())
    url = listed(client)[0]["preview_image"]

    assert {"success": True} == client.post("DeletePreset", preset="ONE")
    assert {"success": False} == client.post("DeletePreset", preset="one")
    assert [] == listed(client)
    assert 404 == fetch(client, url).status_code


def test_export(client):
    """An export gives the presets of the given titles, all of them without titles."""
    add(client, "one")
    add(client, "two")

    assert ["two"] == [
        p["title"] for p in client.post("ExportUserPresets", titles=["two", "ONE", 5])["presets"]
    ]
    assert 2 == len(client.post("ExportUserPresets", titles="two")["presets"])


def test_limit(client):
    """There are no more presets than the operator allows, copies included."""
    for number in range(30):
        assert {"success": True} == add(client, f"p{number}")

    assert {"preset_fail"} == set(add(client, "one too many"))
    assert {"preset_fail"} == set(client.post("DuplicatePreset", preset="p1"))
    assert 30 == len(listed(client))


def test_race_for_a_title(as_user):
    """Of many clients that save one title at once, exactly one succeeds."""
    clients = [as_user("racer") for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda c: add(c, description=c.session_id), clients))

    assert 1 == sum("success" in answer for answer in answers)
    assert 1 == len(listed(clients[0]))


def test_others_are_out_of_reach(as_user, jpeg):
    """Nobody reads, copies, edits or deletes another user's preset, whatever title they try."""
    alice, bob = as_user("alice"), as_user("bob")
    add(alice, "secret", preview_image=jpeg())
    url = listed(alice)[0]["preview_image"]

    for title in ("secret", "alice/secret", "../alice/secret", "/alice/secret"):
        assert {"preset_fail"} == set(bob.post("DuplicatePreset", preset=title))
        assert {"success": False} == bob.post("DeletePreset", preset=title)
        assert {"preset_fail"} == set(add(bob, "mine", is_edit=True, editing=title))
        assert 404 == fetch(bob, f"/ViewSpecial/Preset/{title}").status_code
    assert [] == bob.post("ExportUserPresets", titles=["secret"])["presets"]
    assert 200 == fetch(alice, url).status_code
    assert 404 == fetch(bob, url).status_code
    assert ["secret"] == titles(alice)


def test_picture_without_session(server, jpeg, connect):
    """Without accounts a picture needs no session, as pages of the browser have none; a bad session is refused."""
    client = connect(server)
    add(client, "plain", preview_image=jpeg())

    assert 200 == client.http.get("/ViewSpecial/Preset/plain").status_code
    assert 200 == client.http.get("/ViewSpecial/Preset/PLAIN").status_code
    assert 404 == client.http.get("/ViewSpecial/Preset/gone").status_code
    refused = client.http.get("/ViewSpecial/Preset/plain", headers={"X-Session-ID": "0" * 40})
    assert (400, "invalid_user") == (refused.status_code, refused.json()["error_id"])
