"""What clients say cannot write lines of the log, colour it, or turn its letters round; no secret gets into it."""

import json
import re
import unicodedata
from urllib.parse import quote

import pytest
from websockets.sync.client import connect

from tests.security.raw import JSON, send, upgrade

NASTY = "canary\nINJECTED\rINJECTED\x1b[31m\x1b]0;t\x07\x9b31m\x85INJECTED\u2028INJECTED\u202egnp.exe\u2066\u200b\0end"
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z]+ +\S.*?: ")
#: Lines that the program itself writes over several.
WITHIN = re.compile(
    r"(  |Traceback |\w+(\.\w+)*(Error|Exception|Group)\b|During handling|The above exception|\+|\||$)"
)


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server that logs all it can."""
    return start(probe=True, SWARMKERNEL_SERVER__LOG_LEVEL="DEBUG")


def check(server, since: int = 0) -> list[str]:
    """The log's lines from one number on, after a look at each."""
    last = f"the last of {len(server.log)}"
    server.client().post("log_it", text=last)
    server.wait_for_log(f"said {last}")
    lines = [line.rstrip("\n") for line in server.log[since:]]
    for line in lines:
        odd = [
            hex(ord(c))
            for c in line
            if c != "\t" and unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp", "Cs"}
        ]
        assert [] == odd, line
        assert not line.startswith("INJECTED"), line
    return lines


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "exception", "critical"])
def test_any_text(server, level):
    """A text that a plugin logs is one line, whatever is in it, at every level."""
    since = len(server.log)
    server.client().post("log_it", text=NASTY, level=level)
    lines = check(server, since)

    assert 1 == sum("said canary" in line for line in lines)
    assert all(LINE.match(line) for line in lines if "canary" in line and "from a logger" not in line)


def test_exceptions(server):
    """A client's text in an exception cannot look like another line either."""
    since = len(server.log)
    server.client().post("break_it", how="value", text=NASTY)
    server.client().post("break_it", how="os", text=NASTY)
    lines = check(server, since)

    assert any("canary" in line for line in lines)
    assert all(LINE.match(line) or WITHIN.match(line) for line in lines), lines


def test_every_route(server):
    """No string parameter of any route, and no name in any body, writes more than a line."""
    since, client = len(server.log), server.client()
    document = client.http.get("/openapi.json").json()
    for path, item in document["paths"].items():
        properties = item["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
        body = dict.fromkeys((n for n in properties if n != "session_id"), NASTY)
        body |= {"level": "info", NASTY: NASTY, "settings": {NASTY: NASTY}, "param_map": {NASTY: NASTY}}
        client.raw(path.removeprefix("/API/"), {"session_id": client.session_id, **body})
        client.raw(path.removeprefix("/API/"), {"session_id": NASTY, **body})
    client.post("ServerDebugMessage", message=NASTY)
    for route in ("GenerateText2ImageWS", "SelectModelWS", "break_ws"):
        client.stream(route, model=NASTY, prompt=NASTY, images=1, how=NASTY)
    lines = check(server, since)

    assert all(LINE.match(line) or WITHIN.match(line) for line in lines), lines


def test_paths_and_headers(server):
    """Nor does any path, header or Host."""
    since, words = len(server.log), quote(NASTY)
    said = NASTY.encode("latin-1", "ignore").replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")
    for target in (
        f"/{words}",
        f"/API/{words}",
        f"/View/local/{words}",
        f"/Audio/{words}",
        f"/ViewSpecial/{words}",
    ):
        for method in ("GET", "POST", "TRACE"):
            send(server, method, target, JSON, b"{}")
        upgrade(server, target)
    for name in (
        b"User-Agent",
        b"X-Forwarded-For",
        b"Cookie",
        b"Origin",
        b"Host",
        b"Authorization",
        b"X-Session-ID",
    ):
        for byte in (said, b"\x9b31m\x85INJECTED"):
            send(server, "POST", "/API/GetNewSession", [*JSON, name + b": " + byte], b"{}")
    with connect(server.url.replace("http", "ws") + "/API/break_ws", proxy=None) as ws:
        ws.send(json.dumps({"how": "value", NASTY: 1}))
        list(ws)
    ws_url = server.url.replace("http", "ws") + f"/API/{words}WS"
    with connect(ws_url, proxy=None) as ws:
        ws.send("{}")
        list(ws)
    lines = check(server, since)

    assert all(LINE.match(line) or WITHIN.match(line) for line in lines), lines


def test_secrets_stay_out(server):
    """No session id, API key or header that may hold a secret is in the log, even at its most talkative."""
    client = server.client()
    client.post("SetAPIKey", keyType="civitai_api", key="canary-api-key")
    client.http.get("/View/local/x.png", headers={"x-session-id": client.session_id})
    headers = {"authorization": "Bearer canary-bearer", "cookie": "swarm_token=canary-cookie"}
    client.http.get("/View/local/x.png", headers=headers)
    client.raw("GetNewSession", {}, headers=headers)
    client.raw("Login", {"username": "someone", "password": "canary-password"}, headers=headers)
    client.raw("RegisterBasic", {"username": "someone", "password": "canary-password"})
    text = "".join(check(server))

    for secret in (client.session_id, "canary-api", "canary-bearer", "canary-cookie", "canary-password"):
        assert secret not in text
