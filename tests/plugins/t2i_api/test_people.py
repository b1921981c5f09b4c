"""Pictures of real users with real roles: what their roles allow, and what a change of them does at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.exceptions import ConnectionClosed

from tests.security.people import REQUIRED, People, log_in, within

from .test_generate import ZERO, read
from .test_roles import most_at_once

PAINTS = ("basic_image_generation", "model_params", "fundamental_generate_tab_access")


@pytest.fixture(name="shared_people", scope="module")
def _shared_people(open_shared_studio):
    """A server with accounts, whose backend makes eight pictures at once."""
    studio = open_shared_studio(CANVAS_SLOTS="8", **REQUIRED)
    return studio, People(studio.server)


@pytest.fixture(name="people")
def _people(shared_people):
    """The same, as if nothing had happened on it yet."""
    studio, people = shared_people
    return studio.anew(), people


def painter(people: People, **role) -> str:
    """A new user with a role of these limits."""
    return people.add(people.role("painter", PAINTS, **role))


def test_limit_of_the_role(people):
    """The role's limit binds its user over two sessions."""
    studio, people = people
    name = painter(people, max_t2i_simultaneous=2)
    with ThreadPoolExecutor() as pool:
        clients = [log_in(studio.server, name) for _ in range(2)]
        calls = [
            pool.submit(client.post, "GenerateText2Image", images=4, prompt="slow mine", steps=5)
            for client in clients
        ]
        assert [4, 4] == [len(call.result(30)["images"]) for call in calls]
    assert 2 == most_at_once(studio, "mine")


def test_paths_and_models_of_the_role(people):
    """The role's lists hide models, and its path limits shape paths; the owner is bound by neither list."""
    studio, people = people
    name = painter(people, model_whitelist="ALP", max_outpath_depth=1, allow_unsafe_outpaths=True)
    client = log_in(studio.server, name)
    answer = client.post("GenerateText2Image", images=1, prompt="x", steps=2, model="beta")
    missing = client.post("GenerateText2Image", images=1, prompt="x", steps=2, model="beto")
    assert answer["error"].replace("beta", "beto") == missing["error"]
    made = client.post(
        "GenerateText2Image", images=1, prompt="x", steps=2, overrideoutpathformat="v.1/b/../c"
    )
    assert [f"View/{name}/v.1/c.png"] == made["images"]
    assert people.owner.post("GenerateText2Image", images=1, prompt="x", steps=2, model="beta")["images"]
    cookie = client.http.get("/" + made["images"][0])
    assert 200 == cookie.status_code
    other = log_in(studio.server, people.add("user"))
    refused = [other.http.get(f"/{made['images'][0]}{more}") for more in ("", "x", "?preview=true")]
    assert {(400, refused[0].content)} == {(answer.status_code, answer.content) for answer in refused}
    assert 200 == people.owner.http.get("/" + made["images"][0]).status_code


def test_a_role_that_changes(people):
    """Who loses a right while generating: sockets close, waiting and running pictures end, within a second."""
    studio, people = people
    name = painter(people, max_t2i_simultaneous=1)
    client, posting = log_in(studio.server, name), log_in(studio.server, name)
    with (
        ThreadPoolExecutor() as pool,
        client.socket("GenerateText2ImageWS", images=9, prompt="slow socket", steps=60) as ws,
    ):
        read(ws, "gen_progress")
        posted = pool.submit(posting.post, "GenerateText2Image", images=9, prompt="slow post", steps=60)
        within(5, lambda: 9 == posting.post("GetCurrentStatus")["status"]["waiting_gens"])
        people.role("painter", ["fundamental_generate_tab_access"])
        with pytest.raises(ConnectionClosed) as closed:
            list(ws)
        assert 4401 == closed.value.rcvd.code
        assert posted.result(5) in (
            {"images": []},
            {"error": "The generation was interrupted.", "error_id": "interrupted"},
        )
    studio.wait_for("stopped slow socket")
    again = log_in(studio.server, name)
    assert ZERO == again.post("GetCurrentStatus")["status"]
    assert "bad_permissions" == again.post("GenerateText2Image", images=1, prompt="again")["error_id"]
    assert [] == studio.lines("begin slow post")


def test_secrets_of_accounts(open_studio):
    """Passwords, tokens and session ids of users are in no file of the server and in no line of its log."""
    studio = open_studio(**REQUIRED)
    people = People(studio.server)
    name = painter(people)
    client = log_in(studio.server, name)
    made = people.owner.post("CreateAuthToken", reason="a program")
    secrets = [
        f"correct horse battery {name}",
        client.session_id,
        client.http.cookies["swarm_token"].rpartition(".")[2],
        made["token"].rpartition(".")[2],
    ]
    assert client.post("GenerateText2Image", images=1, prompt="x", steps=2)["images"]
    studio.server.stop()
    data = b"".join(path.read_bytes() for path in studio.folder.rglob("*") if path.is_file())
    assert [] == [
        secret for secret in secrets if secret.encode() in data or secret in "".join(studio.server.log)
    ]
