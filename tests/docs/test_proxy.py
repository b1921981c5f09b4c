"""The shown configuration of a reverse proxy works, and lets nothing through that it should not."""

import shutil
import socket
import ssl
import subprocess
import time

import httpx
import orjson
import pytest
from websockets.sync.client import connect

from swarmkernel.testing import LiveServer

NGINX = shutil.which("nginx")
NAME = "images.example"
OWNER = {"username": "ann", "password": "correct horse battery"}
HTTP = """
daemon off; pid nginx.pid; error_log stderr; worker_processes 1; events {{}}
http {{
    access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
    uwsgi_temp_path tmp; scgi_temp_path tmp;
    {}
}}
"""


@pytest.fixture(name="server", scope="module")
def _server(page, tmp_path_factory):
    """A server with the settings that the page gives for one behind a proxy, and an owner."""
    folder = tmp_path_factory.mktemp("proxied")
    (shown,) = [b.text for b in page("operations.md").blocks() if b.title == "proxy"]
    (folder / "data").mkdir()
    (folder / "data" / "swarmkernel.toml").write_text(shown)
    with LiveServer(folder / "data", ["--disable", "backends_torch"]) as server:
        token = server.wait_for_log("setup_token|one-time").split()[-1]
        http = httpx.Client(base_url=server.url)
        assert "success" in http.post("/API/RegisterBasic", json={**OWNER, "setup_token": token}).json()
        http.close()
        yield server


@pytest.fixture(name="port", scope="module")
def _port(page, server, tmp_path_factory):
    """The port of an nginx with the shown configuration in front of it."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (shown,) = [b.text for b in page("operations.md").blocks() if b.kind == "nginx"]
    shown = shown.replace("listen 443", f"listen 127.0.0.1:{port}").replace(
        "http://127.0.0.1:7801", server.url
    )
    (folder / "nginx.conf").write_text(HTTP.format(shown))
    request = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} -addext subjectAltName=DNS:{NAME}"
    subprocess.run(
        ["openssl", *request.split(), "-out", "cert.pem", "-keyout", "key.pem"],
        check=True,
        cwd=folder,
        capture_output=True,
    )
    command = [NGINX, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    _wait_for(port, process, folder / "log")
    yield port, folder / "cert.pem"
    process.terminate()
    process.wait(10)


def _wait_for(port, process, log):
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return


@pytest.fixture(name="client")
def _client(port):
    """A client that reaches the proxy under the server's public name."""
    number, cert = port
    context = ssl.create_default_context(cafile=str(cert))
    with httpx.Client(
        base_url=f"https://127.0.0.1:{number}",
        verify=context,
        headers={"host": f"{NAME}:{number}"},
        timeout=30,
    ) as client:
        yield client


def _post(client, route, headers=None, **body):
    return client.post(f"/API/{route}", json=body, headers=headers or {}, extensions={"sni_hostname": NAME})


def test_login_through_the_proxy(client, port):
    """A user logs in through the proxy from a page of its own origin; the cookie is Secure, and opens a session."""
    origin = {"origin": f"https://{NAME}:{port[0]}"}
    answer = _post(client, "Login", origin, **OWNER)
    cookie = answer.headers["set-cookie"]
    session = _post(client, "GetNewSession", {"cookie": cookie.partition(";")[0]}).json()

    assert "true" == answer.json()["success"]
    assert "; Secure" in cookie
    assert "ann" == session["user_id"]
    assert "backend_status" in _post(client, "GetCurrentStatus", session_id=session["session_id"]).json()
    context = ssl.create_default_context(cafile=str(port[1]))
    with (
        socket.create_connection(("127.0.0.1", port[0])) as sock,
        connect(
            f"wss://{NAME}:{port[0]}/API/GenerateText2ImageWS",
            ssl=context,
            sock=sock,
            proxy=None,
            origin=origin["origin"],
        ) as ws,
    ):
        ws.send(orjson.dumps({"session_id": session["session_id"], "images": "x"}).decode())
        assert "error" in orjson.loads(ws.recv(timeout=10))


def test_other_upgrades_do_not_pass(port):
    """An upgrade to HTTP/2 in clear, by which requests could pass the proxy's rules unseen, is not passed on."""
    number, cert = port
    context = ssl.create_default_context(cafile=str(cert))
    with (
        socket.create_connection(("127.0.0.1", number), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as wrapped,
    ):
        wrapped.sendall(
            f"GET /health/live HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n".encode()
        )
        assert wrapped.recv(100).startswith(b"HTTP/1.1 200 ")


def test_forged_addresses_do_not_help(client):
    """Whatever address a client claims, the sixth attempt to log in within a minute is turned away."""
    wrong = {"username": "nobody_at_all", "password": "wrong password"}
    answers = [
        _post(client, "Login", {"x-forwarded-for": f"203.0.113.{n}"}, **wrong).json()["error_id"]
        for n in range(8)
    ]

    assert "ratelimit" == answers[-1]
