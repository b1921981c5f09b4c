"""Pages of other sites can neither call the API nor open a socket, whatever Origin their browser sends for them."""

import pytest

from tests.security.raw import JSON, port, send, upgrade

#: For a server that is called http://127.0.0.1:{port}; `{port}` stands for the real one.
OURS = ["http://127.0.0.1:{port}", "HTTP://127.0.0.1:{port}"]
OTHERS = [
    "null",
    "NULL",
    "http://evil.example",
    "http://evil.example:{port}",
    "https://127.0.0.1:{port}",
    "ws://127.0.0.1:{port}",
    "ftp://127.0.0.1:{port}",
    "http://127.0.0.1",
    "http://127.0.0.1:80",
    "http://127.0.0.1:1",
    "http://127.0.0.1:{port}0",
    "http://127.0.0.1:0{port}x",
    "http://localhost:{port}",
    "http://localhost",
    "http://[::1]:{port}",
    "http://localhost.evil.example:{port}",
    "http://127.0.0.1.evil.example:{port}",
    "http://127.0.0.1:{port}.evil.example",
    "http://127.0.0.1:{port}@evil.example",
    "http://evil.example@127.0.0.1:{port}",
    "http://evil.example#127.0.0.1:{port}",
    "http://evil.example?127.0.0.1:{port}",
    "http://evil.example/127.0.0.1:{port}",
    "http://evil.example\\127.0.0.1:{port}",
    "http://2130706433:{port}",
    "http://127.1:{port}",
    "http:127.0.0.1:{port}",
    "http:/127.0.0.1:{port}",
    "//127.0.0.1:{port}",
    "127.0.0.1:{port}",
    "http://",
    "http://:{port}",
    "http://[",
    "http://[::1",
    "http://127.0.0.1:port",
    "http://127.0.0.1:99999999",
    "http://127.0.0.1:{port} http://evil.example",
    "http://127.0.0.1:{port}, http://evil.example",
    "http://evil.example, http://127.0.0.1:{port}",
    "http://127。0。0。1:{port}",
    "http://xn--127.0.0.1:{port}",
    "file://",
    "file:///etc/passwd",
    "data:text/html,x",
    "blob:http://127.0.0.1:{port}/x",
    "chrome-extension://abcdef",
    "moz-extension://abcdef",
    "about:blank",
    "x",
    "*",
]
UNSAFE = ("POST", "PUT", "DELETE", "PATCH")


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server that lets no other site in."""
    return start()


@pytest.fixture(name="friendly", scope="module")
def _friendly(start):
    """A server that lets one other site in."""
    return start(SWARMKERNEL_SERVER__ALLOW_ORIGIN="https://ui.example")


def ask(server, origin, method="POST", target="/API/GetNewSession", extra=()):
    """An unsafe request with an Origin."""
    return send(server, method, target, [*JSON, header(server, origin), *extra], b"{}")


def header(server, origin) -> bytes:
    """An Origin header with the server's own port."""
    return b"Origin: " + origin.replace("{port}", str(port(server))).encode()


def statuses(server, origin) -> set[int]:
    """What unsafe methods, to the API and elsewhere, and upgrades get."""
    found = {ask(server, origin, method).status for method in UNSAFE}
    found |= {
        ask(server, origin, target=target).status for target in ("/", "/View/local/x.png", "/API/Login")
    }
    targets = ("/API/GenerateText2ImageWS", "/API/Nope", "/")
    return found | {upgrade(server, t, [header(server, origin)]).status for t in targets}


def test_other_origins(server):
    """No Origin but the server's own gets through, on any unsafe method, path or upgrade."""
    assert {} == {o: found for o in OTHERS if (found := statuses(server, o)) != {403}}


def test_own_origin(server):
    """The server's own Origin does; without any, which is no browser's way, requests pass too."""
    for origin in OURS:
        assert 200 == ask(server, origin).status
        assert 101 == upgrade(server, headers=[header(server, origin)]).status
    assert 200 == send(server, "POST", "/API/GetNewSession", JSON, b"{}").status
    assert 101 == upgrade(server).status


def test_nothing_is_done(server):
    """A refused request opens no session, and its text does not say what was sent."""
    reply = ask(server, "http://evil.example")

    assert "basic_api" == reply.error_id
    assert b"evil" not in reply.body
    assert b"session_id" not in reply.body


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_what_browsers_say_of_the_site(server, site, status):
    """Where a browser sends no Origin, its word about the site counts, but never against an Origin."""
    assert (
        status == send(server, "POST", "/API/GetNewSession", [*JSON, ("Sec-Fetch-Site", site)], b"{}").status
    )
    assert (101 if status == 200 else 403) == upgrade(server, headers=[("Sec-Fetch-Site", site)]).status
    assert 403 == ask(server, "null", extra=[("Sec-Fetch-Site", "same-origin")]).status


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "text/plain, application/json",
        "application/jsonx",
        "json",
        None,
    ],
)
def test_simple_requests_of_browsers(server, kind):
    """No content type that a page can send to another site without asking first reaches a handler."""
    headers = [("Content-Type", kind)] if kind else []
    reply = send(server, "POST", "/API/GetNewSession", headers, b"{}")

    assert (400, "basic_api") == (reply.status, reply.error_id)


def test_several_origins(server):
    """Two Origin headers are none of ours, even if each would be."""
    own = header(server, OURS[0])
    assert 403 == send(server, "POST", "/API/GetNewSession", [*JSON, own, own], b"{}").status
    assert 403 == upgrade(server, headers=[own, b"Origin: http://evil.example"]).status


@pytest.mark.parametrize("name", ["localhost", "[::1]"])
def test_the_origin_follows_the_name(server, name):
    """A page that was loaded under another of the server's names may call it under that name only."""
    host = f"{name}:{port(server)}"
    headers = [*JSON, ("Origin", f"http://{host}")]

    assert 200 == send(server, "POST", "/API/GetNewSession", headers, b"{}", host=host).status
    assert 403 == send(server, "POST", "/API/GetNewSession", headers, b"{}").status


def test_default_ports(server):
    """A left-out port is the scheme's own."""
    headers = [*JSON, ("Origin", "http://localhost")]

    for host, status in (("localhost:80", 200), ("localhost", 200), ("localhost:443", 403)):
        assert status == send(server, "POST", "/API/GetNewSession", headers, b"{}", host=host).status


def test_a_strangers_word_about_the_scheme(server, start):
    """Only a trusted proxy can say that the client sees HTTPS."""
    proxied = start("--allow-open-network", SWARMKERNEL_SERVER__TRUSTED_PROXIES='["127.0.0.1"]')
    secure = [("X-Forwarded-Proto", "https")]
    for one, statuses_ in ((server, (403, 200)), (proxied, (200, 403))):
        found = [ask(one, f"{s}://127.0.0.1:{{port}}", extra=secure).status for s in ("https", "http")]
        assert statuses_ == tuple(found)


def test_an_allowed_origin(friendly):
    """The one site of the settings is let in, and nothing that looks like it."""
    assert 200 == ask(friendly, "https://ui.example").status
    assert 101 == upgrade(friendly, headers=[("Origin", "https://ui.example")]).status
    likes = ["http://ui.example", "https://ui.example:444", "https://ui.example.evil.example"]
    likes += ["https://evil.ui.example", "https://xui.example", "https://ui.example@evil.example", "null"]
    assert {} == {o: found for o in likes if (found := statuses(friendly, o)) != {403}}


CORS = {"GET": "/health/live", "POST": "/API/GetNewSession", "OPTIONS": "/API/x", "HEAD": "/"}


def allowances(reply) -> dict[str, list[str]]:
    """The headers of a reply by which a browser lets other sites' pages read it."""
    return {name: values for name in HEADERS if (values := reply.all(name))}


HEADERS = [
    f"access-control-{part}"
    for part in ("allow-origin", "allow-credentials", "allow-headers", "allow-methods", "expose-headers")
]


@pytest.mark.parametrize("method", CORS)
@pytest.mark.parametrize("origin", ["https://ui.example", "http://evil.example", "null"])
def test_no_cors_by_default(server, method, origin):
    """Unless the settings name a site, no answer to any method lets another site's page read it."""
    asked = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "content-type")]
    reply = send(server, method, CORS[method], [*JSON, ("Origin", origin), *asked], b"{}")

    assert {} == allowances(reply)


@pytest.mark.parametrize("configured", ["https://ui.example", "*"])
def test_cors(start, friendly, configured):
    """With a site in the settings every answer names that and only that, whoever asks, and never with credentials."""
    server = friendly if configured != "*" else start(SWARMKERNEL_SERVER__ALLOW_ORIGIN="*")
    for method, target in CORS.items():
        for origin in ("https://ui.example", "http://evil.example", "null", None):
            said = [("Origin", origin)] if origin else []
            reply = send(server, method, target, [*JSON, *said], b"{}")
            found = allowances(reply)
            assert [configured] == found.pop("access-control-allow-origin")
            assert "access-control-allow-credentials" not in found
            assert "origin" in [v.lower() for v in reply.all("vary")]
            if method == "OPTIONS":
                assert (204, b"") == (reply.status, reply.body)
                assert {"access-control-allow-methods": ["*"], "access-control-allow-headers": ["*"]} == found
                assert ["3600"] == reply.all("access-control-max-age")
            else:
                assert {} == found
