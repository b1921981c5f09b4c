"""What every answer tells browsers not to do with it."""

import base64
import io
import re

import pytest
from PIL import Image

from tests.security.raw import JSON, dial, lines, netloc, read, send, upgrade


@pytest.fixture(name="server", scope="module")
def _server(start, tmp_path_factory):
    """A server with one file behind each route of files."""
    data = tmp_path_factory.mktemp("files")
    for folder, name in (("Output/local/raw", "x.png"), ("Output/local/raw", "x.html"), ("Audio", "x.mp3")):
        (data / folder).mkdir(parents=True, exist_ok=True)
        (data / folder / name).write_bytes(b"<script>alert(1)</script>")
    server = start(data_dir=data)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(picture.getvalue()).decode()
    preset = {"title": "x", "description": "", "param_map": {}, "preview_image": url}
    assert {"success": True} == server.client().post("AddNewPreset", **preset)
    return server


PAGES = ("/", "/Error/NoGetAPI")
FILES = (
    "/View/local/raw/x.png",
    "/Output/raw/x.png",
    "/Output/raw/x.html",
    "/ViewSpecial/Preset/x",
    "/Audio/x.mp3",
)
ERRORS = (
    "/nowhere",
    "/View/local/none.png",
    "/ViewSpecial/Preset/none",
    "/Audio/none.mp3",
    "/ViewSpecial/LoRA/none",
)


def directives(reply) -> dict[str, str]:
    """The content security policy of an answer."""
    (policy,) = reply.all("content-security-policy")
    return {part.split()[0]: part.partition(" ")[2] for part in map(str.strip, policy.split(";")) if part}


def test_pages(server):
    """Each page forbids frames of other sites, foreign scripts and guesses at its type."""
    for target in PAGES:
        reply = send(server, "GET", target)
        assert (200, True) == (reply.status, reply.all("content-type")[0].startswith("text/html")), target
        policy = directives(reply)
        assert policy["frame-ancestors"] in {"'self'", "'none'"}
        assert policy["default-src"] in {"'self'", "'none'"}
        assert not {"'unsafe-eval'", "*"} & set(" ".join(policy.values()).split())
        assert "script-src" not in policy or "'unsafe-inline'" not in policy["script-src"]
        assert ["nosniff"] == reply.all("x-content-type-options")


def test_there_are_no_other_pages(server):
    """No other path answers with HTML, so that nobody's text can ever be a page of this server."""
    targets = [
        *FILES,
        *ERRORS,
        "/openapi.json",
        "/health/live",
        "/index.html",
        "/favicon.ico",
        "/%3Cscript%3E",
    ]
    for target in targets:
        assert "html" not in " ".join(send(server, "GET", target).all("content-type")), target
    assert b"<script>" not in send(server, "GET", "/%3Cscript%3E").body


def test_files(server):
    """Each file is alone with itself: a sandbox, no guesses at its type, kept by nobody's shared cache."""
    for target in FILES:
        reply = send(server, "GET", target)
        assert 200 == reply.status, target
        assert "sandbox" in directives(reply)
        assert "" == directives(reply)["sandbox"]
        assert ["nosniff"] == reply.all("x-content-type-options")
        (cache,) = reply.all("cache-control")
        assert re.fullmatch(r"private, max-age=\d+", cache)
        assert "text/html" not in reply.all("content-type")[0]
    (disposition,) = send(server, "GET", "/Output/raw/x.html").all("content-disposition")
    assert disposition.startswith("attachment")


def test_errors(server):
    """An error is JSON whose type is not guessed at."""
    for target in ERRORS:
        reply = send(server, "GET", target)
        assert (404, ["application/json"]) == (reply.status, reply.all("content-type")), target
        assert ["nosniff"] == reply.all("x-content-type-options"), target


def test_the_api(server):
    """What the API answers is kept by no cache, and its type is not guessed at."""
    for target, body in (("/API/GetNewSession", b"{}"), ("/API/Nope", b"{}"), ("/API/Nope", b"")):
        reply = send(server, "POST", target, JSON, body)
        assert ["application/json"] == reply.all("content-type")
        assert ["no-store"] == reply.all("cache-control")
        assert ["nosniff"] == reply.all("x-content-type-options")


def test_other_sites_cannot_show_files(server):
    """Pages of other sites cannot even load a picture to see that it is there."""
    for target in (*FILES, *ERRORS):
        assert ["same-origin"] == send(server, "GET", target).all("cross-origin-resource-policy"), target


def test_the_server_does_not_introduce_itself(server):
    """No answer names the software or its version."""
    for target in (*PAGES, *FILES[:1], *ERRORS[:1]):
        reply = send(server, "GET", target)
        assert [] == reply.all("server") + reply.all("x-powered-by")


def test_no_upgrade_to_http_2(server):
    """A request that asks to go on in HTTP/2, which could slip past a proxy's rules, goes on in HTTP/1.1."""
    asking = [("Host", netloc(server)), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c")]
    asking += [("HTTP2-Settings", "AAMAAABkAAQAAP__")]
    with dial(server) as connection:
        for target in ("/health/live", "/"):
            connection.sendall(lines("GET", target, asking))
            assert 200 == read(connection).status


@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; client_max_window_bits", "x"])
def test_no_compressed_frames(server, offer):
    """No compression of frames is agreed to, whichever way it is offered."""
    reply = upgrade(server, headers=[("Sec-WebSocket-Extensions", offer)])
    assert (101, []) == (reply.status, reply.all("sec-websocket-extensions"))
