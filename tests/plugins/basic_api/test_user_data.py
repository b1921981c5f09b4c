"""User settings, API keys, starred models and the rest of a user's data, over HTTP."""

import re

import pytest


def settings(client):
    """Return the described settings of the client's user."""
    return client.post("GetUserSettings")["settings"]


def change(client, **values):
    """Change settings; two underscores stand for a dot."""
    return client.post(
        "ChangeUserSettings", settings={key.replace("__", "."): v for key, v in values.items()}
    )


def test_described(client):
    """Settings come with the themes and languages to choose from."""
    answer = client.post("GetUserSettings")

    assert 14 == len(answer["themes"])
    expected = {
        "name": "Modern Light",
        "is_dark": False,
        "css_paths": ["css/themes/modern.css", "css/themes/modern_light.css"],
    }
    assert expected == answer["themes"]["modern_light"]
    found = answer["settings"]
    assert list(answer["themes"]) == found["theme"]["values"]
    assert ["de", "en", "es", "fr", "ja", "zh"] == found["language"]["values"]
    assert "None" == found["vaes"]["value"]["defaultsdxlvae"]["value"]
    assert "roles" not in found


def test_change(client):
    """Ids count in any letter case, old ones too; unknown and restricted ones are left out and listed."""
    wanted = {
        "FileFormat.ImageFormat": "JPG",
        "roles": ["guest"],
        "nonsense": 1,
        "vaes": {},
        "autocompletesuffix": ", ",
        "ui.hideerrormessages": None,
    }
    answer = client.post("ChangeUserSettings", settings=wanted)

    assert {"success": True, "skipped": ["roles", "nonsense", "vaes", "ui.hideerrormessages"]} == answer
    found = settings(client)
    assert "JPG" == found["fileformat"]["value"]["imageformat"]["value"]
    assert ", " == found["autocomplete"]["value"]["suffix"]["value"]
    assert "*" in client.post("GetMyUserData")["permissions"]


def test_change_is_all_or_nothing(client):
    """One bad value: nothing is applied, and the error names the key as it was sent."""
    answer = change(client, language="de", MaxPromptLines="abc")

    assert "MaxPromptLines" in answer["error"]
    assert "success" not in answer
    assert "en" == settings(client)["language"]["value"]


@pytest.mark.parametrize(
    "body", [{}, {"settings": None}, {"settings": []}, {"rawData": {"settings": {"language": "de"}}}]
)
def test_change_needs_settings(client, body):
    """Settings that are missing, misshaped or nested are an error, and nothing changes."""
    assert "settings" in client.post("ChangeUserSettings", **body)["error"]
    assert "en" == settings(client)["language"]["value"]


def test_changes_add_up(as_user):
    """Two clients that change different settings lose neither change."""
    one, two = as_user("pair"), as_user("pair")
    for number in range(1, 6):
        change(one, maxpromptlines=number)
        change(two, maxsimulpreviews=number)

    found = settings(one)
    assert (5, 5) == (found["maxpromptlines"]["value"], found["maxsimulpreviews"]["value"])


def test_language_of_the_user(client):
    """The chosen language is part of the user's data."""
    change(client, language="ja")

    assert "ja" == client.post("GetMyUserData")["language"]


def test_get_language(client):
    """A language comes with its names and texts; an unknown one is an error that names the others."""
    found = client.post("GetLanguage", language="de")["language"]

    assert ("de", "German", "Deutsch") == (found["code"], found["name"], found["local_name"])
    assert "Vorlagen verwalten" == found["keys"]["Manage Presets"]
    assert "de, en" in client.post("GetLanguage", language="xx")["error"]


def test_my_user_data(client):
    """A new user has nothing but a name, a language and permissions."""
    answer = client.post("GetMyUserData")

    assert "*" in answer.pop("permissions")
    expected = {
        "user_name": "test_my_user_data",
        "presets": [],
        "language": "en",
        "starred_models": {},
        "model_preset_links": {},
        "autocompletions": None,
    }
    assert expected == answer


def test_stars_and_links(client):
    """Starred models and preset links are kept as they were sent, less the session."""
    stars = {"LoRA": ["a", "b"], "Stable-Diffusion": []}
    links = {"LoRA": {"a": ["one", "two"]}}
    assert {"success": True} == client.post("SetStarredModels", **stars)
    assert {"success": True} == client.post("SetPresetLinks", **links)

    data = client.post("GetMyUserData")
    assert (stars, links) == (data["starred_models"], data["model_preset_links"])
    client.post("SetStarredModels")
    assert {} == client.post("GetMyUserData")["starred_models"]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("SetStarredModels", {"LoRA": "a"}),
        ("SetStarredModels", {"LoRA": [1]}),
        ("SetStarredModels", {"LoRA": ["x" * 600_000], "VAE": ["é" * 100_000]}),
        ("SetPresetLinks", {"LoRA": ["a"]}),
        ("SetPresetLinks", {"LoRA": {"a": "one"}}),
        ("SetParamEdits", {}),
        ("SetParamEdits", {"edits": [1]}),
    ],
)
def test_misshaped(client, route, body):
    """What has another shape, or is too large, is an error, and what was kept stays."""
    client.post("SetStarredModels", VAE=["kept"])

    assert "error" in client.post(route, **body)
    data = client.post("GetMyUserData")
    assert ({"VAE": ["kept"]}, {}) == (data["starred_models"], data["model_preset_links"])


def test_param_edits(client):
    """Edits of parameters are kept."""
    assert {"success": True} == client.post("SetParamEdits", edits={"params": {"steps": {"max": 50}}})


def test_api_keys(client):
    """A key is set, its time told, and removed by none or an empty text; its type must be known."""
    assert {"status": "not set"} == client.post("GetAPIKeyStatus", keyType="civitai_api")
    assert {"success": True} == client.post("SetAPIKey", keyType="civitai_api", key="x")
    status = client.post("GetAPIKeyStatus", keyType="civitai_api")["status"]
    assert re.fullmatch(r"last updated \d{4}-\d\d-\d\d \d\d:\d\d", status)
    for nothing in ("none", ""):
        client.post("SetAPIKey", keyType="civitai_api", key="x")
        assert {"success": True} == client.post("SetAPIKey", keyType="civitai_api", key=nothing)
        assert {"status": "not set"} == client.post("GetAPIKeyStatus", keyType="civitai_api")
    assert "huggingface_api" in client.post("SetAPIKey", keyType="other", key="x")["error"]
    assert {"status": "not set"} == client.post("GetAPIKeyStatus", keyType="a/b")
    assert "error" in client.post("SetAPIKey", keyType="civitai_api", key="x" * 1001)


@pytest.mark.parametrize(
    ("set_route", "status_route"),
    [("SetAPIKey", "GetAPIKeyStatus"), ("SetStabilityAPIKey", "GetStabilityAPIKeyStatus")],
)
def test_older_api_key_routes(client, set_route, status_route):
    """The older dialects, which name no type, speak of the one type that there was."""
    assert {"status": "not set"} == client.post(status_route)
    assert {"success": True} == client.post(set_route, key="x")

    assert client.post(status_route)["status"].startswith("last updated")
    assert client.post("GetAPIKeyStatus", keyType="stability_api")["status"].startswith("last updated")


def test_api_keys_never_come_out(server, client):
    """A key is in no reply and in no line of the log."""
    canary = "canary-5f3a9c"
    client.post("SetAPIKey", keyType="huggingface_api", key=canary)
    client.post("SetAPIKey", keyType=canary, key=canary)
    client.post("SetAPIKey", key={"nested": canary})
    replies = [
        client.raw(route, {"session_id": client.session_id}).text
        for route in (
            "GetMyUserData",
            "GetUserSettings",
            "GetCurrentStatus",
            "GetAPIKeyStatus",
            "ExportUserPresets",
        )
    ]

    assert [] == [reply for reply in replies if canary in reply]
    assert [] == [line for line in server.log if canary in line]


def test_users_are_apart(as_user):
    """What one user chooses is not another's."""
    alice, bob = as_user("alice2"), as_user("bob2")
    change(alice, language="fr")
    alice.post("SetStarredModels", LoRA=["a"])
    alice.post("SetAPIKey", key="x")

    assert "en" == bob.post("GetMyUserData")["language"]
    assert {} == bob.post("GetMyUserData")["starred_models"]
    assert {"status": "not set"} == bob.post("GetAPIKeyStatus")


def test_data_directory(swarm_serve, tmp_path, alone, connect):
    """Languages, word lists and sounds of the data directory can be chosen, and the operator's defaults count."""
    data = tmp_path / "data"
    for name in ("languages", "Autocompletions/en", "Audio"):
        (data / name).mkdir(parents=True)
    (data / "languages" / "sv.json").write_text(
        '{"name_en":"Swedish","name_local":"Svenska","keys":{"UI":"Yta"}}'
    )
    (data / "Autocompletions" / "en" / "words.txt").write_text("red_hair (long)\n")
    (data / "Audio" / "ding.mp3").write_bytes(b"")
    defaults = '{theme = "solarized", fileformat = {dpi = 72}}'
    server = swarm_serve(data_dir=data, **alone(SWARMKERNEL_BASIC_API__DEFAULT_USER=defaults))
    client = connect(server)

    found = settings(client)
    assert "sv" in found["language"]["values"]
    assert ["", "ding.mp3"] == found["audio"]["value"]["completionsound"]["values"]
    assert ("solarized", "modern_dark") == (found["theme"]["value"], found["theme"]["default_value"])
    assert 72 == found["fileformat"]["value"]["dpi"]["value"]
    answer = change(client, autocomplete__source="en/words.txt", language="sv", theme="beweish")
    assert {"success": True, "skipped": []} == answer
    data = client.post("GetMyUserData")
    assert ["red_hair \\(long\\)\nred_hair (long)"] == data["autocompletions"]
    assert "sv" == data["language"]
    assert "beweish" == settings(client)["theme"]["value"]
    assert "Yta" == client.post("GetLanguage", language="sv")["language"]["keys"]["UI"]


def test_sounds_are_served(swarm_serve, tmp_path, alone, connect):
    """A sound that can be chosen can be fetched, in parts too; other files, and paths that lead out, cannot."""
    data = tmp_path / "data"
    (data / "Audio" / "bells").mkdir(parents=True)
    (data / "Audio" / "bells" / "low ding.MP3").write_bytes(b"ID3sound")
    (data / "Audio" / "notes.html").write_text("<b>no sound</b>")
    (data / "secret.mp3").write_bytes(b"secret")
    http = connect(swarm_serve(data_dir=data, **alone()), session=False).http

    sound = http.get("/Audio/bells/low%20ding.MP3")
    assert (200, b"ID3sound", "audio/mpeg") == (
        sound.status_code,
        sound.content,
        sound.headers["content-type"],
    )
    assert ("nosniff", "private, max-age=30") == (
        sound.headers["x-content-type-options"],
        sound.headers["cache-control"],
    )
    part = http.get("/Audio/bells/low%20ding.MP3", headers={"range": "bytes=3-4"})
    assert (206, b"so") == (part.status_code, part.content)
    for path in ("notes.html", "none.mp3", "bells"):
        answer = http.get(f"/Audio/{path}")
        assert (404, "file_not_found") == (answer.status_code, answer.json()["error_id"])
    for path in ("%2e%2e/secret.mp3", "..%5csecret.mp3", "bells//low%20ding.MP3", "a%00.mp3", ""):
        answer = http.get(f"/Audio/{path}")
        assert (400, "bad_path") == (answer.status_code, answer.json()["error_id"])


def test_bad_operator_default_stops_the_server(swarm_serve, alone):
    """A default for users that fits no setting stops the server, and the error names it."""
    from swarmkernel import StartupError

    with pytest.raises(StartupError, match=r"BASIC_API__DEFAULT_USER.*audio\.volume"):
        swarm_serve(**alone(SWARMKERNEL_BASIC_API__DEFAULT_USER='{"audio.volume" = "loud"}'))


def test_restart_keeps_everything(swarm_serve, tmp_path, alone, connect, jpeg):
    """With a durable store, what users set is still there after the server was killed and started again."""
    pytest.importorskip("swarmkernel_store_sql")
    server = swarm_serve(data_dir=tmp_path, **alone())
    client = connect(server)
    change(client, language="fr")
    client.post("AddNewPreset", title="one", description="", param_map={"steps": 5}, preview_image=jpeg())
    client.post("SetStarredModels", LoRA=["a"])
    client.post("SetAPIKey", key="x")
    before = client.post("GetMyUserData")
    picture = client.http.get(before["presets"][0]["preview_image"]).content
    server.kill()
    again = connect(swarm_serve(data_dir=tmp_path, **alone()), session=False)
    again.session_id = client.session_id

    assert before == again.post("GetMyUserData")
    assert picture == again.http.get(before["presets"][0]["preview_image"]).content
    assert again.post("GetAPIKeyStatus")["status"].startswith("last updated")
