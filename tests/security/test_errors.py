"""Whatever goes wrong, the answer says nothing of the server's inside: no path, no traceback, no SQL, no class."""

import json
import re

import pytest
from websockets.sync.client import connect

from tests.security.raw import JSON, send

INSIDE = [
    *(
        r"/secret",
        r"/tmp/",
        r"/home/",
        r"/[r]oot/",
        r"/work",
        r"/usr/",
        r"/etc/",
        r"site-packages",
        r"\.py\b",
        r"\.db\b",
    ),
    *(
        r"Traceback",
        r"\bline \d+",
        r"0x[0-9a-f]{6,}",
        r"<(class|function|object|coroutine|built-in)",
        r"\bat 0x",
    ),
    *(
        r"\bSELECT\b",
        r"\bINSERT\b",
        r"\bUPDATE \w+ SET",
        r"\bWHERE\b",
        r"sqlite",
        r"asyncpg",
        r"constraint failed",
    ),
    *(
        r"\w+Error\b",
        r"\w+Exception\b",
        r"\bErrno\b",
        r"orjson",
        r"pydantic",
        r"starlette",
        r"hypercorn",
        r"attrs",
    ),
    *(r"swarmkernel_\w+", r"NoneType", r"not subscriptable", r"has no attribute", r"positional argument"),
]
FAILURES = ("os", "store", "key", "value")
#: Values that break what takes them for something else.
ODD = [
    None,
    "",
    "x",
    "\0",
    "../../x",
    -1,
    2**31 - 1,
    10**30,
    1e300,
    [],
    {},
    [None],
    {"a": {"b": []}},
    True,
    "a" * 5000,
]


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server with routes that fail."""
    return start(probe=True)


def told(body: bytes | str, data_dir="/secret") -> list[str]:
    """What a body tells of the inside."""
    text = body.decode() if isinstance(body, bytes) else body
    return [
        found[0] for pattern in [*INSIDE, re.escape(str(data_dir))] if (found := re.search(pattern, text))
    ]


@pytest.mark.parametrize("how", FAILURES)
def test_failures(server, how):
    """A handler that raises anything is answered with a text from the catalogue, over HTTP and sockets."""
    asked = {"how": how, "text": "canary"}
    reply = send(server, "POST", "/API/break_it", JSON, json.dumps(asked).encode())
    with connect(server.url.replace("http", "ws") + "/API/break_ws", proxy=None) as ws:
        ws.send(json.dumps(asked))
        frames = list(ws)

    wanted = "storage_failed" if how == "store" else "internal_error"
    assert (400, wanted) == (reply.status, reply.error_id)
    assert [wanted] == [json.loads(frame)["error_id"] for frame in frames]
    for body in (reply.body, *frames):
        assert [] == told(body)
        assert "canary" not in (body if isinstance(body, str) else body.decode())


def test_every_route(server):
    """No route, given any odd value for any of its parameters, tells anything of the inside."""
    client = server.client()
    document = client.http.get("/openapi.json").json()
    wrong, seen = {}, 0
    for path, item in document["paths"].items():
        schema = item["post"]["requestBody"]["content"]["application/json"]["schema"]
        names = [n for n in schema["properties"] if n != "session_id"]
        for number, odd in enumerate(ODD):
            body = {name: ODD[(number + n) % len(ODD)] for n, name in enumerate(names)}
            body |= {"settings": odd, "param_map": odd, "edits": odd}
            answer = client.raw(path.removeprefix("/API/"), {"session_id": client.session_id, **body})
            seen += 1
            if path == "/API/log_it" or "error" not in answer.json():
                continue
            if found := told(answer.json()["error"], server.data_dir):
                wrong[path, number] = (found, answer.text)
    assert seen > 400
    assert {} == wrong


@pytest.mark.parametrize(
    "path",
    [
        "View/local/a%00b",
        "View/local/" + "a" * 5000,
        "Output/x",
        "Audio/%ff",
        "ViewSpecial/Nope/x",
        "API/%00",
        "%00",
    ],
)
def test_files(server, path):
    """Nor does any route of files, or a path that nobody serves."""
    for method in ("GET", "POST", "PUT"):
        assert [] == told(send(server, method, f"/{path}", JSON, b"{}").body, server.data_dir)


def test_a_folder_that_cannot_be_read(start, tmp_path_factory):
    """A folder in the place of a file, or a file in the place of a folder, is told without its path."""
    data = tmp_path_factory.mktemp("data")
    for name in ("Output", "Audio", "languages", "Autocompletions"):
        (data / name).write_text("a file, not a folder")
    client = start(data_dir=data).client()
    answers = [client.http.get(f"/{p}").text for p in ("View/local/x.png", "Output/x.png", "Audio/x.mp3")]
    answers += [json.dumps(client.post(r)) for r in ("GetUserSettings", "GetMyUserData", "ListT2IParams")]
    answers.append(json.dumps(client.post("GetLanguage", language="xx")))
    assert {} == {text: found for text in answers if (found := told(text, data) if "error" in text else [])}
