"""Where accounts are wanted and cannot be had, nobody is served: a server never opens because something broke."""

import pytest

from swarmkernel import StartupError
from tests.security.people import REQUIRED, setup_token

BROKEN = {
    "the package": ("swarmkernel_accounts/__init__.py", "raise ImportError('a broken upgrade')"),
    "its plugin": (
        "swarmkernel_accounts/plugin.py",
        "raise SyntaxError('a broken upgrade')",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin(start, tmp_path, what):
    """Accounts that are required but do not load stop the start."""
    name, code = BROKEN[what]
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    if what == "its plugin":
        (file.parent / "__init__.py").touch()
    file.write_text(code)
    refuses(start, PYTHONPATH=str(tmp_path))


def test_a_broken_dependency(start, tmp_path):
    """What is missed only at a login lets nobody in."""
    (tmp_path / "argon2.py").write_text("raise ImportError('a broken upgrade')")
    server = start(**REQUIRED, PYTHONPATH=str(tmp_path))
    client = server.client(login=False)
    body = {"username": "someone", "password": "long enough", "setup_token": setup_token(server)}
    assert "success" not in client.raw("RegisterBasic", body).json()
    assert "success" not in client.raw("Login", body).json()
    assert "session_id" not in client.raw("GetNewSession").json()


def refuses(start, *args, **env):
    """The server does not start, and says why."""
    with pytest.raises(StartupError, match="accounts"):
        start(*args, **{**REQUIRED, **env})


def test_a_disabled_plugin(start):
    """The same where the plugin is switched off, against what the settings say."""
    refuses(start, "--disable", "accounts")


def test_settings_in_the_file(start, tmp_path):
    """The same where the settings file says that accounts are required."""
    (tmp_path / "swarmkernel.toml").write_text("[accounts]\nrequired = true\n")
    with pytest.raises(StartupError, match="accounts"):
        start("--disable", "accounts", data_dir=tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1 behind a proxy"])
def test_an_open_network_is_asked_for(start, host):
    """Without accounts a server that a network can reach, itself or through a proxy, has to be told to serve it."""
    if "proxy" in host:
        args, env = [], {"SWARMKERNEL_SERVER__TRUSTED_PROXIES": '["10.0.0.1"]'}
    else:
        args, env = ["--host", host], {}
    with pytest.raises(StartupError, match="allow-open-network"):
        start(*args, **env)
    start(*args, "--allow-open-network", **env).stop()


def test_a_plugin_that_cannot_vote_refuses(start, tmp_path_factory):
    """Nobody may do what a failing plugin was asked about."""
    from tests.security.conftest import plugin

    code = """
from swarmkernel import hookimpl
@hookimpl
def swarm_vote(session, permission): raise RuntimeError("a bug")
"""
    server = start(**plugin(tmp_path_factory, "voter", code))
    assert "bad_permissions" == server.client().post("GetMyUserData")["error_id"]


def test_switching_accounts_on_ends_sessions(start, tmp_path):
    """A session from before accounts were required is not valid after, nor the other way round."""
    server = start(data_dir=tmp_path)
    session = server.client().session_id
    server.stop()
    server = start(data_dir=tmp_path, **REQUIRED)
    client = server.client(login=False)
    client.session_id = session
    assert "invalid_session_id" == client.post("GetMyUserData")["error_id"]
    server.stop()
    client = start(data_dir=tmp_path).client(login=False)
    client.session_id = session
    assert "invalid_session_id" == client.post("GetMyUserData")["error_id"]
