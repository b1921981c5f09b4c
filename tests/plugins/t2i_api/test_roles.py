"""Users with roles, on a real server: what each may do, see and name, and what happens when that changes."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import orjson
import pytest
from websockets.exceptions import ConnectionClosed

from swarmkernel.testing import Client, FakeDistributions

from .test_generate import ZERO, of, read

HERE = Path(__file__).parent


@attrs.frozen
class House:
    """A studio with accounts; `say` gives users their roles."""

    studio: object
    file: Path

    def say(self, **roles) -> None:
        """From now on these are the roles."""
        draft = self.file.with_suffix(".new")
        draft.write_text(json.dumps(roles))
        draft.rename(self.file)

    def client(self, name: str) -> Client:
        """A new session of a user."""
        client = self.studio.server.client(login=False)
        client.session_id = client.raw("GetNewSession", headers={"X-Name": name}).json()["session_id"]
        return client


def opened(folder: Path, open_studio, roles, **options) -> House:
    """A house with these roles; keywords are for the studio."""
    FakeDistributions(folder / "roles").add(
        "roles", (HERE / "roles.py").read_text(), requires=["swarmkernel"]
    )
    file = folder / "roles.json"
    file.write_text(json.dumps(roles))
    return House(open_studio(folder / "roles", ROLES=str(file), **options), file)


@pytest.fixture(name="open_house")
def _open_house(open_studio, tmp_path):
    """Start a house of the test's own."""
    return lambda roles, **options: opened(tmp_path, open_studio, roles, **options)


@pytest.fixture(name="shared_house", scope="module")
def _shared_house(open_shared_studio, tmp_path_factory):
    """A house whose backend makes twelve pictures at once."""
    return opened(tmp_path_factory.mktemp("house"), open_shared_studio, {}, CANVAS_SLOTS="12")


@pytest.fixture(name="house")
def _house(shared_house):
    """The same, as if nothing had happened in it yet, and where everybody has the usual role."""
    shared_house.say()
    return attrs.evolve(shared_house, studio=shared_house.studio.anew())


def most_at_once(studio, word: str) -> int:
    """The most pictures whose prompt has the word that were in the making at once."""
    running = most = 0
    for line in studio.lines():
        if word in line:
            running += line.startswith("begin") - line.startswith("end")
            most = max(most, running)
    return most


def test_limit_of_the_user(house):
    """A role's limit binds the user over all their sessions, requests and routes; others have their own."""
    house.say(ann={"max_t2i_simultaneous": 2})
    with ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(
                house.client(name).post, "GenerateText2Image", images=4, prompt=f"slow {name}", steps=5
            )
            for name in ("ann", "ann", "ben")
        ]
        frames = house.client("ann").stream("GenerateText2ImageWS", images=3, prompt="slow ann", steps=5)
        assert [4, 4, 4] == [len(call.result(30)["images"]) for call in calls]
    assert 3 == len(of(frames, "image"))
    assert (2, 4) == (most_at_once(house.studio, "ann"), most_at_once(house.studio, "ben"))


def test_paths(house):
    """A path is as deep as the role allows, keeps odd characters if it allows them, and can be fetched either way."""
    house.say(ann={"max_outpath_depth": 2}, ben={"allow_unsafe_outpaths": True, "max_outpath_depth": 9})
    template = "../a.1/b/c;d/../[prompt]"
    made = {}
    for name in ("ann", "ben"):
        client = house.client(name)
        answer = client.post(
            "GenerateText2Image", images=1, prompt="x/../y.1", steps=2, overrideoutpathformat=template
        )
        made[name] = answer["images"][0]
        picture = client.http.get("/" + made[name], headers={"X-Session-ID": client.session_id})
        assert (200, "image/png") == (picture.status_code, picture.headers["content-type"])
    assert {"ann": "View/ann/a1/b/xy1.png", "ben": "View/ben/a.1/b/c;d/xy1.png"} == made


def test_others_pictures(house):
    """Another user's picture is answered like one that never was; who may see others' gets it."""
    house.say(ann={}, ben={"permissions": ["basic_image_generation"]})
    ann, ben = house.client("ann"), house.client("ben")
    url = "/" + ann.post("GenerateText2Image", images=1, prompt="x", steps=2)["images"][0]

    def get(client, path):
        answer = client.http.get(path, headers={"X-Session-ID": client.session_id})
        return answer.status_code, answer.content

    assert 200 == get(ann, url)[0]
    assert (400, "unauthorized") == (get(ben, url)[0], json.loads(get(ben, url)[1])["error_id"])
    assert get(ben, url) == get(ben, url + "x") == get(ben, "/View/nobody/x.png")
    assert get(ben, url + "?preview=true") == get(ben, url)


def test_hidden_models(open_house):
    """A model that the lists hide is not listed, not named, not chosen, and not used, as if it were not there."""
    lists = {"model_whitelist": ["ALP", "vis"], "model_blacklist": ["alpha-priv", "visible/no"]}
    house = open_house(
        {"ann": lists, "ben": {"model_whitelist": ["none of these"]}},
        models=("alpha-priv", "alpha", "beta", "visible/no", "visible/yes"),
    )
    ann, ben, eve = (house.client(name) for name in ("ann", "ben", "eve"))

    def names(client):
        return [name for name, _ in client.post("ListT2IParams")["models"]["Stable-Diffusion"]]

    def tried(client, model, **more):
        return client.post("GenerateText2Image", images=1, prompt="x", steps=2, model=model, **more)

    assert 5 == len(names(eve))
    assert ["alpha.safetensors", "visible/yes.safetensors"] == names(ann)
    assert [] == names(ben)
    for hidden, missing in {
        "alpha-priv": "alpha-prix",
        "ALPHA_PRIV.safetensors": "ALPHA_PRIX.safetensors",
    }.items():
        assert tried(ann, missing) == json.loads(
            json.dumps(tried(ann, hidden)).replace("priv", "prix").replace("PRIV", "PRIX")
        )
    assert "there is no" in tried(ann, "beta")["error"]
    assert "there is no" in tried(ann, "visible/no")["error"]
    assert tried(eve, "beta")["images"]
    house.studio.wait_for("load beta")
    for model in ("alpha", "Visible", "yes"):
        assert tried(ann, model)["images"]
    assert {"load beta", "load alpha", "load visible/yes"} == {
        line.removesuffix(".safetensors") for line in house.studio.lines("load")
    }
    begun = len(house.studio.lines("begin"))
    refused = ben.post("GenerateText2Image", images=1, prompt="x", steps=2)
    assert "model_not_found" == refused["error_id"]
    assert begun == len(house.studio.lines("begin"))


def test_lists_change(house):
    """The lists count as they are now, for a session that is open too."""
    house.say(ann={"model_blacklist": ["beta"]})
    ann = house.client("ann")
    assert "error" in ann.post("GenerateText2Image", images=1, prompt="x", steps=2, model="beta")
    house.say(ann={"model_blacklist": ["alpha"]})
    assert ann.post("GenerateText2Image", images=1, prompt="x", steps=2, model="beta")["images"]
    assert "error" in ann.post("GenerateText2Image", images=1, prompt="x", steps=2, model="alpha")


def test_permission_is_asked_again(house):
    """On an open socket each further request needs the permission of now; what was begun is finished."""
    client = house.client("ann")
    with client.socket("GenerateText2ImageWS", images=1, prompt="slow first", steps=10) as ws:
        read(ws, "gen_progress")
        house.say(ann={"permissions": ["model_params"]})
        ws.send(orjson.dumps({"session_id": client.session_id, "images": 1, "prompt": "second"}).decode())
        assert "bad_permissions" == read(ws, "error")["error_id"]
        assert read(ws, "image")
    assert [] == house.studio.lines("begin second")


def test_end_of_a_session(open_house):
    """When a user is expelled their sockets close, their pictures end as interrupted, and nothing of them counts on."""
    house = open_house({}, CANVAS_SLOTS="2")
    watching, posting = house.client("ann"), house.client("ann")
    with (
        ThreadPoolExecutor() as pool,
        watching.socket("GenerateText2ImageWS", images=20, prompt="slow socket", steps=50) as ws,
    ):
        read(ws, "gen_progress")
        posted = pool.submit(posting.post, "GenerateText2Image", images=20, prompt="slow post", steps=50)
        house.studio.wait_for("begin", 2)
        assert {"ended": 2} == house.studio.server.client(login=False).post("Expel", user="ann")
        with pytest.raises(ConnectionClosed) as closed:
            list(ws)
        assert 4401 == closed.value.rcvd.code
        assert posted.result(20) in (
            {"images": []},
            {"error": "The generation was interrupted.", "error_id": "interrupted"},
        )
    house.studio.wait_for("stopped", 2)
    assert "invalid_session_id" == watching.post("GetCurrentStatus")["error_id"]
    again = house.client("ann")
    assert ZERO == again.post("GetCurrentStatus")["status"]
    assert again.post("GenerateText2Image", images=1, prompt="again", steps=2)["images"]
    assert 2 == len(house.studio.lines("begin slow"))
