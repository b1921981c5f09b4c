"""Before there is an owner nobody gets in but with the token that the server printed, once."""

import json
import threading

import pytest

from tests.security.people import PASSWORD, REQUIRED, command, log_in, routes_of, setup_token, within
from tests.security.raw import JSON, send


@pytest.fixture(name="unowned", scope="module")
def _unowned(start):
    """A server that stays without an owner."""
    return start(**REQUIRED)


def test_setup_required(unowned):
    """A new session and a login are refused with 403 `setup_required`, and no route works."""
    server = unowned
    for route, body in (
        ("GetNewSession", {}),
        ("Login", {"username": "boss", "password": "long enough"}),
    ):
        reply = send(server, "POST", f"/API/{route}", JSON, json.dumps(body).encode())
        assert (403, "setup_required") == (reply.status, reply.error_id)
    client = server.client(login=False)
    for name, facts in routes_of(server).items():
        if facts["permission"] and not facts["streams"]:
            assert "basic_api" == client.post(name)["error_id"]
    for target in ("/View/local/x.png", "/Output/x.png", "/Audio/x.mp3", "/ViewSpecial/Preset/x"):
        reply = send(server, "GET", target)
        assert (403, "setup_required") == (reply.status, reply.error_id), (target, reply)
    assert not any("Traceback" in line for line in server.log)


def test_the_token_works_once(start):
    """The token makes one owner, who can log in; a second use, or another token, makes nobody."""
    server = start(**REQUIRED)
    token = setup_token(server)

    def register(name, given):
        body = {"username": name, "password": PASSWORD.format(name), "setup_token": given}
        return server.client(login=False).raw("RegisterBasic", body).json()

    for wrong in ("", "0" * len(token), token[:-1], token + "0", token.upper() + "x", " " + token, "*"):
        assert "success" not in register("intruder", wrong), wrong
    assert {"success": "true"} == register("first", token)
    assert "success" not in register("second", token)
    owner = log_in(server, "first")
    assert ["first"] == owner.post("AdminListUsers")["users"]
    assert "*" in owner.raw("GetNewSession").json()["permissions"]
    server.stop()
    server.start()
    assert not any("setup_token" in line for line in server.log)
    assert "success" not in register("third", token)


def test_only_one_of_many_wins(start):
    """Of many who use the token at the same time, one becomes the owner."""
    server = start(**REQUIRED)
    token, won = setup_token(server), []

    def register(number):
        name = f"racer{number}"
        body = {"username": name, "password": PASSWORD.format(name), "setup_token": token}
        won.append((name, server.client(login=False).raw("RegisterBasic", body).json().get("success")))

    threads = [threading.Thread(target=register, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [name for name, success in won if success]
    assert 1 == len(winners), won
    assert winners == log_in(server, winners[0]).post("AdminListUsers")["users"]


def test_a_restart_makes_another_token(start):
    """The token of an earlier start is worth nothing."""
    server = start(**REQUIRED)
    old = setup_token(server)
    server.stop()
    server.start()
    assert old != setup_token(server)
    body = {"username": "late", "password": "long enough", "setup_token": old}
    assert "success" not in server.client(login=False).raw("RegisterBasic", body).json()


def test_the_command_line_makes_one_too(start):
    """An owner made by the command opens the door, and closes it for the token, while the server runs."""
    server = start(**REQUIRED)
    token = setup_token(server)
    done = command(
        server, "users", "add", "shelly", "--role", "owner", "--password-stdin", given="long enough\n"
    )
    assert 0 == done.returncode, done.stderr
    ask = (server, "POST", "/API/GetNewSession", JSON, b"{}")
    within(5, lambda: send(*ask).error_id != "setup_required")
    body = {"username": "late", "password": "long enough", "setup_token": token}
    assert "success" not in server.client(login=False).raw("RegisterBasic", body).json()
    assert ["shelly"] == log_in(server, "shelly", "long enough").post("AdminListUsers")["users"]


def test_the_token_is_not_kept(unowned):
    """The token is printed, and is in no file."""
    token = setup_token(unowned).encode()
    files = [f for f in unowned.data_dir.rglob("*") if f.is_file()]
    assert files
    assert [] == [f.name for f in files if token in f.read_bytes()]
