"""The order of checks, and the error that a client sees for each, over real HTTP and real sockets."""

import json

import httpx
import orjson
import pytest
from websockets.sync.client import connect


def test_route_names_ignore_case(stranger):
    """The prefix and the route name match in any letter case; a trailing slash is another, unknown, route."""
    assert 200 == stranger.http.post("/api/getnewsession", json={}).status_code
    assert 200 == stranger.http.post("/Api/GETNEWSESSION", json={}).status_code

    response = stranger.http.post("/API/GetNewSession/", json={})

    assert 400 == response.status_code
    assert "basic_api" == response.json()["error_id"]


def test_session_ids(client):
    """A session id is forty lower-case hexadecimal characters."""
    assert 40 == len(client.session_id)
    assert set(client.session_id) <= set("0123456789abcdef")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_other_methods_lead_to_a_page(stranger, method):
    """Any method but POST is redirected to a page that answers 200."""
    response = stranger.http.request(method, "/API/GetNewSession")

    assert (302, "/Error/NoGetAPI") == (response.status_code, response.headers["location"])
    assert 200 == stranger.http.get("/Error/NoGetAPI").status_code
    assert 200 == stranger.http.get("/").status_code


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 400),
        ("", 400),
        ("application/x-www-form-urlencoded", 400),
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/vnd.x+json", 200),
    ],
)
def test_content_type(stranger, kind, status):
    """Only JSON media types are accepted."""
    response = stranger.http.post("/API/GetNewSession", content=b"{}", headers={"content-type": kind})

    assert status == response.status_code
    if status == 400:
        assert "basic_api" == response.json()["error_id"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'"x"',
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b"\xff\xfe",
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"a":' + b"[" * 30000 + b"]" * 30000 + b"}",
    ],
)
def test_bad_bodies(client, body):
    """A body that is not a JSON object, or too deep, is answered 400 basic_api."""
    response = client.http.post("/API/Echo", content=body, headers={"content-type": "application/json"})

    assert (400, "basic_api") == (response.status_code, response.json()["error_id"])


def test_too_many_values(client):
    """A body of too many values is refused with the limit in the text."""
    body = orjson.dumps({"session_id": client.session_id, "raw": [0] * 200_001})

    response = client.http.post("/API/Whole", content=body, headers={"content-type": "application/json"})

    assert 400 == response.status_code
    assert "200000" in response.json()["error"]


def test_body_limits(client, stranger):
    """Public routes take 64 KiB, others 1 MiB, large ones more; chunked bodies are counted as they come."""
    kib = {"pad": "x" * 70_000}
    mib = {"pad": "x" * 1_100_000}
    assert 413 == stranger.raw("GetNewSession", kib).status_code
    assert 200 == client.raw("Echo", {"session_id": client.session_id, "text": "", **kib}).status_code
    assert 413 == client.raw("Echo", {"session_id": client.session_id, "text": "", **mib}).status_code
    assert 200 == client.raw("Whole", {"session_id": client.session_id, **mib}).status_code

    def chunks():
        for _ in range(100):
            yield b"x" * 65536

    response = httpx.post(
        client.url + "/API/Echo", content=chunks(), headers={"content-type": "application/json"}, timeout=20
    )
    assert 413 == response.status_code


def test_session_errors(client, stranger):
    """A missing session is basic_api, an unknown one 401; the body's id beats the header's, even when null."""
    assert (400, "basic_api") == _told(stranger.raw("Echo", {"text": "x"}))
    assert (401, "invalid_session_id") == _told(stranger.raw("Echo", {"session_id": "0" * 40}))
    header = {"x-session-id": client.session_id}
    assert 200 == stranger.raw("Echo", {"text": "x"}, headers=header).status_code
    assert (401, "invalid_session_id") == _told(stranger.raw("Echo", {"session_id": None}, headers=header))


def test_order_of_checks(client, stranger):
    """Session before route, route before kind, kind before permission, permission before parameters."""
    assert "basic_api" == stranger.post("NoSuchRoute")["error_id"]
    assert (400, "bad_route") == _told(client.raw("NoSuchRoute", {"session_id": client.session_id}))
    assert (400, "bad_request_method") == _told(client.raw("CountWS", {"session_id": client.session_id}))
    assert (400, "bad_permissions") == _told(client.raw("Forbidden", {"session_id": client.session_id}))


def test_handler_failures(client):
    """A route's own refusal is HTTP 200; a crash is internal_error without details; nothing is no_result."""
    assert {"error": "not today", "error_id": "closed"} == client.post("SayNo")
    assert 200 == client.raw("SayNo", {"session_id": client.session_id}).status_code
    crash = client.raw("Crash", {"session_id": client.session_id})
    assert (400, "internal_error") == _told(crash)
    assert "division" not in crash.text
    assert "no_result" == client.post("Nothing")["error_id"]


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ({"text": 5}, {"text": "5"}),
        ({"text": 5.0}, {"text": "5"}),
        ({"text": None}, {"text": ""}),
        ({"text": True}, {"text": "true"}),
        ({"number": "8"}, {"number": 8}),
        ({"number": " 8 "}, {"number": 8}),
        ({"number": 5.0}, {"number": 5}),
        ({"number": None}, {"number": 1}),
        ({"real": "1,000.5"}, {"real": 1000.5}),
        ({"flag": "TRUE"}, {"flag": True}),
        ({"flag": 0}, {"flag": False}),
        ({"many": ["a", 1]}, {"many": ["a", "1"]}),
        ({"many": "a"}, {"many": []}),
        ({"maybe": None}, {"maybe": None}),
    ],
)
def test_coercion(client, sent, got):
    """Values are read as leniently as clients expect."""
    answer = client.post("Echo", **{"text": "x", **sent})

    assert got == {key: answer[key] for key in got}


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({"number": "x"}, "number"),
        ({"number": 5.5}, "number"),
        ({"number": 2**31}, "number"),
        ({"number": True}, "number"),
        ({"number": "9" * 5000}, "number"),
        ({"real": "NaN"}, "real"),
        ({"flag": "yes"}, "flag"),
        ({"flag": 2}, "flag"),
    ],
)
def test_wrong_types(client, sent, named):
    """A value of the wrong type is named, with what would be right, at HTTP 200."""
    response = client.raw("Echo", {"session_id": client.session_id, "text": "x", **sent})

    assert (200, "invalid_parameter") == _told(response)
    assert f"'{named}'" in response.json()["error"]


def test_missing_parameter(client):
    """A missing parameter is named at HTTP 200."""
    response = client.raw("Echo", {"session_id": client.session_id})

    assert (200, "missing_parameter") == _told(response)
    assert "'text'" in response.json()["error"]


def test_whole_body(client):
    """A whole-body parameter gets everything but the session id, whatever its name."""
    assert {"raw": {"raw": {"a": 1}, "b": [2]}} == client.post("Whole", raw={"a": 1}, b=[2])


def test_alias(client):
    """An alias is the same route."""
    assert client.post("Echo", text="x") == client.post("oldecho", text="x")


def test_json_headers(client):
    """Answers are uncacheable JSON with a length."""
    headers = client.raw("Echo", {"session_id": client.session_id, "text": "x"}).headers

    assert ("application/json", "no-store") == (headers["content-type"], headers["cache-control"])
    assert "content-length" in headers


def test_sockets(client):
    """A WebSocket route sends each answer as a message and closes with 1000."""
    with client.socket("CountWS", to=3) as ws:
        assert [{"n": 0}, {"n": 1}, {"n": 2}] == [json.loads(m) for m in ws]

        assert 1000 == ws.close_code


def test_socket_errors(client):
    """Errors over a socket are one message, then close 1000."""
    for route, error_id in (
        ("NoSuchRoute", "bad_route"),
        ("Echo", "bad_request_method"),
        ("CountWS", "missing_parameter"),
    ):
        with client.socket(route) as ws:
            assert [error_id] == [json.loads(m)["error_id"] for m in ws]
            assert 1000 == ws.close_code
    assert ["n", "error"] == [next(iter(m)) for m in client.stream("CrashWS")]


@pytest.mark.parametrize("message", ["{", "[]", b"\xff", "", "x" * 1_100_000])
def test_malformed_first_message(client, message):
    """A first message that is no JSON object, or too large, gets an error and close 1000."""
    with connect(client.url.replace("http", "ws") + "/API/CountWS", proxy=None) as ws:
        ws.send(message)

        assert ["basic_api"] == [json.loads(m)["error_id"] for m in ws]
        assert 1000 == ws.close_code


def test_binary_first_message(client):
    """The first message may be binary."""
    with connect(client.url.replace("http", "ws") + "/API/CountWS", proxy=None) as ws:
        ws.send(orjson.dumps({"session_id": client.session_id, "to": 1}))

        assert [{"n": 0}] == [json.loads(m) for m in ws]


def test_session_header_on_a_socket(client):
    """The session id may come in a header of the upgrade."""
    url = client.url.replace("http", "ws") + "/API/CountWS"
    with connect(url, proxy=None, additional_headers={"x-session-id": client.session_id}) as ws:
        ws.send('{"to": 1}')

        assert [{"n": 0}] == [json.loads(m) for m in ws]


def test_further_messages(client):
    """A handler can read what the client sends later."""
    with client.socket("ChatWS") as ws:
        ws.send('{"a": 1}')
        assert {"echo": {"a": 1}} == json.loads(ws.recv())
        ws.send('{"bye": true}')
        assert {"echo": {"bye": True}} == json.loads(ws.recv())
        assert [] == list(ws)
        assert 1000 == ws.close_code


def test_no_message_in_time(probe):
    """A socket whose first message does not come in time is told so and closed."""
    server = probe(SWARMKERNEL_SERVER__FIRST_MESSAGE_SECONDS="0.3")
    with connect(server.url.replace("http", "ws") + "/API/CountWS", proxy=None) as ws:
        assert ["basic_api"] == [json.loads(m)["error_id"] for m in ws]


def test_slow_body(probe):
    """A body that trickles is cut off with 408."""
    import socket
    import urllib.parse

    server = probe(SWARMKERNEL_SERVER__BODY_SECONDS="0.5")
    host = urllib.parse.urlsplit(server.url)
    with socket.create_connection((host.hostname, host.port), timeout=10) as conn:
        conn.sendall(
            f"POST /API/Echo HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Type: application/json\r\n"
            "Content-Length: 1000\r\n\r\n{".encode()
        )
        assert conn.recv(4096).startswith(b"HTTP/1.1 408")


def test_no_compressed_frames(client):
    """The server never agrees to compressed WebSocket frames, which could be bombs."""
    with connect(client.url.replace("http", "ws") + "/API/CountWS", proxy=None, compression="deflate") as ws:
        assert "sec-websocket-extensions" not in ws.response.headers


LOCAL = ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]"]
FOREIGN = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "2130706433",
    "0",
    "127.1",
    "a/b?c",
    "x@localhost",
    "localhost:99999999",
    "localhost evil",
    "",
]


@pytest.mark.parametrize("host", LOCAL)
def test_own_hosts(client, host):
    """The names of this machine are accepted, in any form that means the same."""
    assert (
        client.raw("Echo", {"session_id": client.session_id, "text": ""}, headers={"host": host}).status_code
        == 200
    )


@pytest.mark.parametrize("host", FOREIGN)
def test_foreign_hosts(client, host):
    """Any other Host is refused, on every method and on upgrades, before routing."""
    for method in ("GET", "POST", "DELETE"):
        assert 403 == client.http.request(method, "/API/Echo", headers={"host": host}).status_code
    assert 403 == client.http.get("/", headers={"host": host}).status_code
    assert 403 == _upgrade(client, {"Host": host})


def test_configured_host(probe):
    """A name in the settings is accepted, and CORS headers are set where asked for."""
    server = probe(
        SWARMKERNEL_SERVER__HOSTS='["art.example"]', SWARMKERNEL_SERVER__ALLOW_ORIGIN="https://ui.example"
    )
    client = server.client()
    headers = {"host": "art.example", "origin": "https://ui.example"}
    body = {"session_id": client.session_id, "text": ""}

    assert 200 == client.raw("Echo", body, headers=headers).status_code
    preflight = client.http.options("/API/x", headers=headers)
    assert 204 == preflight.status_code
    assert [
        preflight.headers[f"access-control-{name}"]
        for name in ("allow-origin", "allow-methods", "allow-headers", "max-age")
    ] == ["https://ui.example", "*", "*", "3600"]


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.example",
        "http://localhost.evil.example",
        "https://127.0.0.1",
        "http://127.0.0.1:1",
        "file://",
        "x",
        "http://[",
    ],
)
def test_foreign_origins(client, origin):
    """Another site's pages can neither post nor open a socket."""
    headers = {"origin": origin}

    assert (
        client.raw("Echo", {"session_id": client.session_id, "text": ""}, headers=headers).status_code == 403
    )
    assert 403 == _upgrade(client, {"Origin": origin})


def test_own_origin(client):
    """Our own pages can."""
    body = {"session_id": client.session_id, "text": ""}

    assert 200 == client.raw("Echo", body, headers={"origin": client.url}).status_code
    assert 403 == client.raw("Echo", body, headers={"sec-fetch-site": "cross-site"}).status_code
    assert 101 == _upgrade(client, {"Origin": client.url})


def test_large_headers(client):
    """Too many or too large headers are refused."""
    assert 400 == client.raw("Echo", {}, headers={"x-pad": "x" * 17_000}).status_code
    assert 400 == client.raw("Echo", {}, headers={f"x-{n}": "1" for n in range(120)}).status_code


def test_forwarding_headers_are_not_believed(client):
    """What an untrusted peer says it forwards for does not reach the session's address."""
    answer = client.raw("GetNewSession", {}, headers={"x-forwarded-for": "6.6.6.6"}).json()

    assert 40 == len(answer["session_id"])
    assert 404 == client.http.get("/nowhere").status_code


def test_openapi(client):
    """The route table describes itself."""
    document = client.http.get("/openapi.json").json()

    schema = document["paths"]["/API/Echo"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert ["text", "session_id"] == schema["required"]
    assert {"type": "integer", "default": 1} == schema["properties"]["number"]


def _told(response):
    return response.status_code, response.json().get("error_id")


def _upgrade(client, headers):
    import base64
    import socket
    import urllib.parse

    host = urllib.parse.urlsplit(client.url)
    lines = {
        "Host": host.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"0" * 16).decode(),
    } | headers
    request = "GET /API/CountWS HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
    with socket.create_connection((host.hostname, host.port), timeout=10) as conn:
        conn.sendall(request.encode())
        return int(conn.recv(64).split()[1])
