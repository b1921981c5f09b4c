"""Login tokens travel where scripts and other sites cannot take them, and nothing that is kept can be used as one."""

import json
import re
import time

import pytest

from tests.security.people import PASSWORD, REQUIRED, People, login
from tests.security.raw import JSON, send


@pytest.fixture(name="people", scope="module")
def _people(start):
    """A server without limits, and everybody on it."""
    return People(start(**REQUIRED))


COOKIE = re.compile(r"swarm_token=([0-9a-f]+)\.([0-9a-f]{32})\.([0-9a-f]{32});(.*)")


def test_cookies(people, start):
    """A login sets a cookie that scripts and other sites cannot use, for HTTPS alone where the client sees that."""
    name = people.add()
    proxied = start(**REQUIRED, SWARMKERNEL_SERVER__TRUSTED_PROXIES='["127.0.0.1"]')
    People(proxied).add("user", name)
    for server, headers, secure in (
        (people.server, [], False),
        (people.server, [("X-Forwarded-Proto", "https")], False),
        (proxied, [("X-Forwarded-Proto", "https")], True),
        (proxied, [("X-Forwarded-Proto", "http")], False),
    ):
        cookie, *own = login(server, name, PASSWORD.format(name), headers).all("set-cookie")
        assert ([f"__Host-{cookie}"] if secure else []) == own
        user, _, _, rest = COOKIE.fullmatch(cookie).groups()
        flags = [flag.strip().lower() for flag in rest.split(";")]
        assert name == bytes.fromhex(user).decode()
        assert {"httponly", "samesite=lax", "path=/"} <= set(flags)
        assert secure == ("secure" in flags)
        assert not any(flag.startswith("domain") for flag in flags)


def test_ambiguous_cookies(people):
    """Of several differing cookies of the name none counts, so that nobody can slip theirs before the user's."""
    first, second = (people.client() for _ in range(2))
    ours, theirs = (c.http.cookies["swarm_token"] for c in (first, second))

    def who(*headers):
        return send(people.server, "POST", "/API/GetNewSession", [*JSON, *headers], b"{}")

    assert "session_id" in json.loads(who(("Cookie", f"swarm_token={ours}")).body)
    for headers in (
        [("Cookie", f"swarm_token={ours}; swarm_token={theirs}")],
        [("Cookie", f"swarm_token={ours}"), ("Cookie", f"swarm_token={theirs}")],
        [("Cookie", f"swarm_token={theirs}; x=1; swarm_token=")],
        [("Cookie", f"swarm_token=x; swarm_token={ours}")],
    ):
        assert "not_logged_in" == who(*headers).error_id, headers


def test_bearer(people):
    """A made token works as a bearer of it, in this header only, and never in an address."""
    client = people.client()
    token = client.post("CreateAuthToken", reason="a program")["token"]

    def who(*headers, target="/API/GetNewSession", body=b"{}"):
        return json.loads(send(people.server, "POST", target, [*JSON, *headers], body).body)

    assert "session_id" in who(("Authorization", f"Bearer {token}"))
    assert "session_id" in who(("Authorization", f"bearer {token}"))
    user, number, secret = token.split(".")
    for wrong in (
        f"{user}.{number}.{'0' * 32}",
        f"{user}.{number}",
        f"{b'boss'.hex()}.{number}.{secret}",
        secret,
    ):
        assert "not_logged_in" == who(("Authorization", f"Bearer {wrong}"))["error_id"]
    for header in (("Authorization", f"Basic {token}"), ("Authorization", token), ("X-Auth-Token", token)):
        assert "not_logged_in" == who(header)["error_id"]
    for target in (f"/API/GetNewSession?swarm_token={token}", f"/API/GetNewSession?token={token}"):
        assert "not_logged_in" == who(target=target)["error_id"]
    assert (
        "not_logged_in" == who(body=json.dumps({"swarm_token": token, "token": token}).encode())["error_id"]
    )


def test_session_ids_stay_out_of_addresses(people):
    """A session id counts in the body or its header, never in an address, which logs and proxies keep."""
    session = people.owner.session_id
    reply = send(people.server, "POST", f"/API/GetCurrentStatus?session_id={session}", JSON, b"{}")
    assert (400, "basic_api") == (reply.status, reply.error_id)
    assert 400 == send(people.server, "GET", f"/View/boss/x.png?session_id={session}").status


def test_secrets_at_rest(people):
    """No password, token, session id or API key is in any file of the server."""
    client = people.client()
    client.post("SetAPIKey", keyType="civitai_api", key="canary-api-key-text")
    token = client.post("CreateAuthToken", reason="a program")["token"]
    cookie = client.http.cookies["swarm_token"]
    secrets = [client.session_id, token.split(".")[2], cookie.split(".")[2], "canary-api-key-text"]
    secrets += [PASSWORD.format(client.raw("GetNewSession").json()["user_id"])]
    time.sleep(0.2)
    files = {f.name: f.read_bytes() for f in people.server.data_dir.rglob("*") if f.is_file()}
    assert any(name.endswith(".db") for name in files)
    for secret in secrets:
        assert [] == [name for name, content in files.items() if secret.encode() in content]
