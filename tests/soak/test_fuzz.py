"""No request, whatever is in it, costs the server more than an error in that request's own answer."""

import collections
import json
import random
import subprocess
import sys
import time

import attrs
import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

SMALL = {
    "SWARMKERNEL_T2I_API__MAX_IMAGES": "3",
    "SWARMKERNEL_T2I_API__MAX_SIDE": "600",
    "SWARMKERNEL_T2I_API__MAX_STEPS": "30",
    "SWARMKERNEL_SERVER__FIRST_MESSAGE_SECONDS": "2",
    "SWARMKERNEL_SERVER__BODY_SECONDS": "2",
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
# An IHDR that promises 60000 x 60000 pixels.
BOMB = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgCAIAAAB7rz2F"
TRAVERSAL = [
    "../../../../../../etc/passwd",
    "..\\..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:\\x",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "a/../../b",
    "\\\\host\\share",
    "file:///etc/passwd",
    "http://127.0.0.1:1/",
    "con",
    "~root",
]
TEXTS = [
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\r\nX-Injected: 1",
        "\x1b[31mred",
        "\x7f\x80",
        "\u202egnp.exe",
        "\u2066x\u2069",
    ),
    *("\ufeff", "\uffff", "e\u0301" * 50, "\U0001f600" * 500, "x" * 100_000, "ß" * 50_000, "\n" * 5000),
    *("'; DROP TABLE swarm_rows; --", "{{7*7}}${7*7}", "%s%n%d", "<script>alert(1)</script>", "__proto__"),
    *("null", "true", "NaN", "nan", "Infinity", "-inf", "1e999", "-0", "0x10", "1_000", "٣", "1" * 5000),
    *("<random:a,b>", "<repeat:999999999,x>", "<wildcard:*>", "[" * 5000, "(" * 5000, "<lora:../x:1>"),
    *(PIXEL, BOMB, "data:image/png;base64,%%%", "data:text/html,<b>"),
    *TRAVERSAL,
]
NUMBERS = [
    *(0, -1, 1, 2, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63, 2**64, -(2**64), 10**40, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, -1e308),
    *(float("nan"), float("inf")),
]
DEEP: list = []
for _ in range(60):
    DEEP = [DEEP]
BROKEN_JSON = [
    *(
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"5",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
    ),
    *(b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"\\ud800":1}', b'{"a":NaN}', b'{"a":1e999}', b'{"a":01}'),
    *(b"[" * 100_000, b'{"a":' * 2000, b'{"a":' + b"1" * 5000 + b"}", b'{"images":1,"images":[]}'),
    *(b'{"a":"\x01"}', b"{" + b'"k":[],' * 30_000 + b'"z":1}', b'{"a":[' + b"{}," * 250_000 + b"{}]}"),
]
PATHS = [
    "View/local/raw/x.png",
    "View/local/",
    "ViewSpecial/Preset/x",
    "ViewSpecial/Stable-Diffusion/alpha",
    "Output",
]
PATHS += ["API/GetNewSession", "API/", "openapi.json", "Error/NoGetAPI", "favicon.ico", ""]

nasty = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.text(max_size=20),
    st.floats(allow_nan=True),
    st.recursive(
        st.sampled_from([None, 1, "x", "..", -5, 1e308]),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    ),
    st.sampled_from([[], {}, DEEP, [{}] * 3000, {"": {"": [None]}}]),
)


def mostly(usual, *rare):
    """Mostly the first strategy; `one_of` would give each leaf of the others the same weight."""
    return st.sampled_from([usual] * 2 * len(rare) + list(rare)).flatmap(lambda chosen: chosen)


@attrs.frozen
class Case:
    """One request: a route over HTTP or a socket with a body, or another path of the server."""

    how: str
    target: str
    body: bytes = b""
    method: str = "POST"
    header: str | None = None


@attrs.define
class World:
    """What the server under test has, so that requests can name it."""

    client: object
    http: dict[str, dict[str, str]]
    sockets: dict[str, dict[str, str]]
    known: dict[str, list]
    extras: dict[str, list[str]]

    def value(self, name: str, kind: str):
        """Values for a parameter: such as fit, such as might fit another, and such as fit nowhere."""
        plain = {
            "string": st.sampled_from(["a", "b", "alpha"]),
            "integer": st.integers(-2, 5),
            "boolean": st.booleans(),
        }.get(kind, st.just("1"))
        mine = self.known.get(name)
        fit = st.sampled_from(mine) if mine else plain
        anything = st.sampled_from([v for values in self.known.values() for v in values])
        return mostly(fit, plain, anything, nasty)

    def body(self, route: str, parameters: dict[str, str]):
        """Bodies for a route, mostly with all that it needs."""
        own = {name: self.value(name, kind) for name, kind in parameters.items()}
        more = [
            st.tuples(st.just(name), self.value(name, ""))
            for name in self.extras.get(route, [])
            if name not in own
        ]
        few = st.lists(st.one_of(more), min_size=1, max_size=3).map(dict) if more else st.just({})
        full = st.tuples(few, st.fixed_dictionaries(own)).map(lambda pair: pair[0] | pair[1])
        names = st.sampled_from([*own, "x", *TEXTS[:6]]) | st.text(max_size=5)
        partial = st.fixed_dictionaries({}, optional={**own, "session_id": nasty, "": nasty})
        return mostly(full, partial, st.dictionaries(names, nasty, max_size=6))

    def sent(self, body):
        """The bytes of a body, under a session that is one of ours, mostly."""
        sessions = st.sampled_from(self.known["session_id"] * 10 + ["0" * 40, "", None, "absent", 5])

        def encode(pair):
            values, session = pair
            given = {} if session == "absent" else {"session_id": session}
            return json.dumps(given | values).encode()

        return st.tuples(body, sessions).map(encode)

    def cases(self):
        """All kinds of requests."""
        broken = st.sampled_from(BROKEN_JSON)
        heads = st.sampled_from([None, None, None, "0" * 40, "\xff", *self.known["session_id"]])
        routes = [
            st.builds(
                Case,
                st.just(how),
                st.just(name),
                mostly(self.sent(self.body(name, needs)), broken),
                header=heads,
            )
            for how, table in (("http", self.http), ("socket", self.sockets))
            for name, needs in table.items()
        ]
        swapped = [
            st.builds(Case, st.just(how), st.just(name), self.sent(st.just({"images": 1, "model": "alpha"})))
            for how, table in (("socket", self.http), ("http", self.sockets))
            for name in table
        ]
        tails = st.sampled_from(
            ["", "/", "?preview=true", "%00", "%ff", "/..", *(f"/{t}" for t in TRAVERSAL)]
        )
        path = st.builds("".join, st.tuples(st.sampled_from(PATHS), tails))
        method = st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
        paths = st.builds(Case, st.just("path"), path, st.just(b"{}"), method=method)
        return mostly(st.one_of(routes), st.one_of(swapped), paths)


def look_around(client) -> World:
    """Gather what the server says that it has."""
    document = client.http.get("/openapi.json").json()
    routes = {
        path.removeprefix("/API/"): {
            name: facts.get("type", "")
            for name, facts in item["post"]["requestBody"]["content"]["application/json"]["schema"][
                "properties"
            ].items()
            if name != "session_id"
        }
        for path, item in document["paths"].items()
    }
    command = [sys.executable, "-m", "swarmkernel", "routes", "--format", "json"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    sockets = {
        route["name"]: {"images": "integer"} if "images" in route["parameters"] else {"model": "string"}
        for route in listed
        if route["transport"] == "websocket"
    }
    assert len(routes) > 25
    assert sockets
    params = client.post("ListT2IParams")["list"]
    user_settings = _ids(client.post("GetUserSettings")["settings"])
    known = {p["id"]: [p["default"], p["min"], p["max"], *(p["values"] or [])[:4]] for p in params}
    other = client.raw("GetNewSession").json()["session_id"]
    known |= {
        "session_id": [client.session_id, other],
        "type_id": ["painter", "spare", "spare", "nope"],
        "backend_id": [0, 1, 2, "0"],
        "backend": ["0", "all", "1"],
        "backendId": ["0", "1"],
        "new_id": [-1, 0, 3],
        "language": ["en", "de"],
        "keyType": ["civitai_api", "huggingface_api", "stability_api"],
        "subtype": ["Stable-Diffusion", "VAE", "LoRA", "Preset"],
        "preset": ["a", "b"],
        "editing": ["a", "b"],
        "title": ["a", "b"],
        "presets": [["a"], ["b", "a"], "a,b"],
        "param_map": [{"steps": "2"}, {"width": "64", "nope": "1"}, {p["id"]: "1" for p in params}],
        "settings": [{name: value} for name in user_settings for value in ("", "JPG", 5, None, "../../x")],
        "edits": [{"groups": {}, "params": {}}],
        "extra_metadata": [{"a": 1}],
        "preview_image": [PIXEL, BOMB],
        "model": ["alpha", "alpha.safetensors", "ALPHA"],
        "modelName": ["alpha", "alpha.safetensors"],
        "images": [1, "2"],
        "path": ["", "/"],
        "depth": [1, 2],
        "sortBy": ["Name", "DateCreated"],
    }
    generation = [p["id"] for p in params] + ["presets", "extra_metadata", "donotsave"]
    extras = dict.fromkeys(("GenerateText2Image", "GenerateText2ImageWS"), generation)
    extras |= {"AddNewPreset": ["param_map"], "ChangeUserSettings": ["settings"], "EditBackend": ["settings"]}
    extras |= {"SetParamEdits": ["edits"], "ExportUserPresets": ["titles"]}
    extras |= {name: ["Stable-Diffusion", "LoRA"] for name in ("SetStarredModels", "SetPresetLinks")}
    return World(client, routes, sockets, known, extras)


def _ids(described: dict, prefix: str = "") -> list[str]:
    """The dotted ids of described settings."""
    return [
        found
        for name, one in described.items()
        for found in (_ids(one["value"], f"{prefix}{name}.") if one["type"] == "group" else [prefix + name])
    ]


def call(client, case: Case) -> list[dict]:
    """Send a case; the JSON objects that came back, after the checks that hold for all of them."""
    if case.how == "socket":
        return _talk(client, case)
    header = {} if case.header is None else {"x-session-id": case.header.encode("latin-1")}
    header["content-type"] = "application/json"
    path = case.target if case.how == "path" else f"API/{case.target}"
    response = client.http.request(case.method, f"/{path}", content=case.body, headers=header)
    assert response.status_code < 500, response.text
    assert b"root:" not in response.content
    return [] if case.how == "path" else [orjson.loads(response.content)]


def _talk(client, case: Case) -> list[dict]:
    url = client.url.replace("http", "ws", 1)
    with connect(f"{url}/API/{case.target}", max_size=None, compression=None, proxy=None) as ws:
        frames = []
        try:
            ws.send(case.body, text=_is_text(case.body))
            while True:
                frames.append(orjson.loads(ws.recv(timeout=10)))
        except ConnectionClosed:
            pass
        assert 1000 == ws.close_code, ws.close_reason
    return frames


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def restore(client) -> None:
    """Make the backends what they were, if a request changed them."""
    backends = client.post("ListBackends")
    zero = backends.get("0", {})
    same = zero.get("type") == "painter" and zero.get("enabled")
    if not same or len(backends) > 1:
        for number in backends:
            client.post("DeleteBackend", backend_id=int(number))
        fresh = client.post("AddNewBackend", type_id="painter")
        if fresh["id"] != 0:
            client.post("EditBackend", backend_id=fresh["id"], title="", settings={}, new_id=0)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.soak)])
def test_any_request_gets_an_answer(paint, ready, no_complaint, tmp_path, count):
    """Each of many odd requests is answered soon with JSON that is no server error, and the server works on."""
    server = paint(**SMALL)
    client = server.client()
    world = look_around(client)
    number = 20261121 if count == 300 else random.SystemRandom().randrange(2**32)
    print(f"seed {number}")
    slowest, granted = [0.0], collections.Counter()

    def check(case):
        if case.target.startswith(("Generate", "Select")):
            ready(client)
        began = time.monotonic()
        answers = call(client, case)
        seconds = time.monotonic() - began
        slowest[0] = max(slowest[0], seconds)
        assert all(isinstance(answer, dict) for answer in answers), answers
        assert [] == [a for a in answers if a.get("error_id") in {"internal_error", "storage_failed"}]
        assert seconds < 5
        granted[case.target] += bool(answers) and not any("error" in answer for answer in answers)
        assert "backend_status" in client.post("GetCurrentStatus")
        if "Backend" in case.target:
            restore(client)
        no_complaint(server)

    limits = settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    seed(number)(limits(given(world.cases())(check)))()

    assert 0 == server.stop()
    no_complaint(server)
    assert {"data", "dists"} == {entry.name for entry in tmp_path.iterdir()}
    refused = [name for name in (*world.http, *world.sockets) if not granted[name]]
    assert len(refused) < len(world.http) * 150 / count, granted
    print(f"slowest answer {slowest[0]:.2f} s; granted: {dict(granted)}")
