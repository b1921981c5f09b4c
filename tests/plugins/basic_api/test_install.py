"""The first-run installation, over real sockets."""

import socket
import time
import tomllib

import pytest

from swarmkernel.testing import FakeDistributions, LiveServer

from .conftest import alone, enabled, on_path

GOOD = {
    "theme": "modern_light",
    "installed_for": "just_self",
    "backend": "none",
    "models": "none",
    "install_amd": False,
    "language": "de",
}
STEPS = """
import asyncio
import logging
from pathlib import Path

from swarmkernel import RouteError, hookimpl

log = logging.getLogger(__name__)
ASKED = []


async def good(name):
    yield {"info": f"{name} begins"}
    yield {"progress": 5, "total": 10, "per_second": 3}


async def refusing(name):
    yield {"progress": 1, "total": 10, "per_second": 1}
    raise RouteError(f"{name} says no.", error_id="says_no")


async def broken(name):
    yield {"info": f"{name} begins"}
    raise OSError("/secret/path")


async def slow(name):
    try:
        yield {"info": f"{name} begins"}
        await asyncio.sleep(60)
    finally:
        log.warning("%s was given up", name)


KINDS = {"good": good, "fine": good, "refusing": refusing, "broken": broken, "slow": slow}


@hookimpl(optionalhook=True)
def basic_install(services, choices):
    log.warning("asked for %s and %s", choices["backend"], choices["models"])
    for name in (choices["backend"], *choices["models"]):
        if name == "impossible":
            raise RouteError("That cannot be.")
        if name in KINDS:
            yield f"Step {name}", KINDS[name](name)
"""


@pytest.fixture(name="serve", scope="module")
def _serve(tmp_path_factory):
    """Start servers with a plugin that has steps; they end with the module."""
    servers = []
    folder = tmp_path_factory.mktemp("dists")
    FakeDistributions(folder).add("steps", STEPS)

    def serve(*, steps=True, data_dir=None, **env):
        paths = on_path(folder) if steps else {}
        server = LiveServer(data_dir or tmp_path_factory.mktemp("data"), env=alone(**paths, **env))
        servers.append(server)
        return server.start()

    yield serve
    for server in servers:
        server.kill()


@pytest.fixture(name="fresh", scope="module")
def _fresh(serve):
    """A server that no test of this module installs."""
    return serve()


def install(server, **choices):
    """The frames of an installation, GOOD but for *choices*; None leaves one out."""
    wanted = {key: value for key, value in {**GOOD, **choices}.items() if value is not None}
    return server.client().stream("InstallConfirmWS", **wanted)


def file_of(server):
    return server.data_dir / "swarmkernel.toml"


def settings(server):
    return tomllib.loads(file_of(server).read_text())


def counts(frames):
    """The steps that frames of progress count, and the one total that they name."""
    (total,) = {f["total_steps"] for f in frames if "progress" in f}
    return [f["steps"] for f in frames if "progress" in f], total


def test_plain_installation(serve):
    """Theme and language count at once and after a restart, and an installed server is not installed again."""
    server = serve(steps=False)
    frames = install(server)

    assert {"success": True} == frames[-1]
    assert ([2, 3, 4], 4) == counts(frames)
    zeros = {"progress": 0, "total": 0, "per_second": 0, "total_steps": 4}
    assert [{**zeros, "steps": n} for n in (2, 3, 4)] == [f for f in frames if "progress" in f]
    assert all(f.keys() == {"info"} for f in frames[:-1] if "progress" not in f)
    expected = {
        "server": {"host": "127.0.0.1"},
        "basic_api": {"default_user": {"theme": "modern_light", "language": "de"}},
    }
    assert expected == settings(server)
    _check_installed(server)
    server.stop()
    _check_installed(server.start())
    server.stop()
    file_of(server).unlink()
    server.start()
    assert "installed already" in install(server)[-1]["error"]


def _check_installed(server):
    client = server.client()
    shown = client.post("GetUserSettings")["settings"]
    assert ("modern_light", "de") == (shown["theme"]["value"], shown["language"]["value"])
    assert "de" == client.post("GetMyUserData")["language"]
    *_, info, error = install(server)
    assert "This server is installed already; change its settings instead." == error["error"]
    assert {"info": error["error"]} == info


def test_set_up_by_other_means(serve, tmp_path):
    """A server that began with a settings file is installed; the file stays as it is."""
    (tmp_path / "swarmkernel.toml").write_text("# mine\n")
    server = serve(data_dir=tmp_path)

    assert "installed already" in install(server)[-1]["error"]
    assert "# mine\n" == file_of(server).read_text()


@pytest.mark.parametrize(
    ("expected", "choices"),
    [
        ("theme: 'x' is none of", {"theme": "x"}),
        ("theme: '' is none of", {"theme": ""}),
        ("language: 'xx' is none of", {"language": "xx"}),
        ("just_self or just_self_lan", {"installed_for": "everybody"}),
        ("needs accounts", {"installed_for": "just_self_lan"}),
        ("no backend any more", {"backend": "stabilityapi"}),
        ("no backend any more", {"backend": " StabilityAPI "}),
        ("backend 'comfyui'", {"backend": "comfyui"}),
        ("backend 'x", {"backend": "x" * 5000}),
        ("model 'sd15'", {"models": "fine, sd15"}),
        ("That cannot be.", {"backend": "good", "models": "fine, impossible"}),
        ("Missing parameter 'theme'", {"theme": None}),
        ("Missing parameter 'installed_for'", {"installed_for": None}),
        ("Missing parameter 'backend'", {"backend": None}),
        ("Missing parameter 'models'", {"models": None}),
        ("Missing parameter 'install_amd'", {"install_amd": None}),
        ("Missing parameter 'language'", {"language": None}),
        ("parameter 'install_amd'", {"install_amd": "perhaps"}),
    ],
)
def test_refusals(fresh, expected, choices):
    """Whatever is wrong is found before anything was done."""
    *frames, error = install(fresh, **choices)

    assert expected in error["error"]
    assert len(error["error"]) < 400
    assert all(f == {"info": error["error"]} for f in frames)
    assert not file_of(fresh).exists()
    assert "modern_dark" == fresh.client().post("GetUserSettings")["settings"]["theme"]["value"]


@pytest.mark.parametrize("key", ["sk-canary", {"a": [1]}, "", None, 5, [], True], ids=repr)
def test_the_older_dialect(serve, key):
    """What the older dialect sends with it is accepted whatever it is, and kept nowhere."""
    server = serve(steps=False)
    choices = {**GOOD, "stability_api_key": key, "install_amd": "TRUE", "make_shortcut": "true"}
    frames = server.client().stream("InstallConfirmWS", **choices)
    assert {"success": True} == frames[-1]
    assert "No shortcut" in frames[0]["info"]
    server.stop()
    kept = b"".join(path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file())

    assert b"canary" not in kept + "".join(server.log).encode()


def test_steps_of_other_plugins(serve):
    """Each choice is asked for, backend first, models after the settings are saved; only models may fail."""
    server = serve()
    models = " broken ,refusing,none,, fine,fine"
    frames = install(server, backend="good", models=models)
    told = [f.get("info") or f.get("progress") for f in frames]
    assert ["Step good.", "good begins", 5] == told[3:6]
    assert {"success": True} == frames[-1]
    saved = told.index("The settings are saved.")
    assert ["Step broken.", "broken begins", "Step broken failed; the server's log says why."] == (
        told[saved + 2 : saved + 5]
    )
    assert ["Step refusing.", 1, "refusing says no."] == told[saved + 6 : saved + 9]
    assert "/secret" not in str(frames)
    mine = {"progress": 5, "total": 10, "per_second": 3, "total_steps": 8}
    assert [{**mine, "steps": n} for n in (2, 6)] == [f for f in frames if f.get("progress") == 5]
    assert ([2, 2, 3, 4, 5, 5, 6, 6, 7, 8], 8) == counts(frames)


def test_a_backend_that_is_there(serve, tmp_path):
    """A backend for which nothing is to be done counts as a step all the same."""
    pytest.importorskip("swarmkernel_backend_api")
    server = serve(data_dir=tmp_path, **enabled("backend_api"))

    assert ([2, 3, 4, 5], 5) == counts(install(server, backend="comfyui"))


def test_a_backend_that_fails(serve):
    """Where the backend's step says no nothing is saved, and the next attempt succeeds."""
    server = serve()
    for backend, expected in (("refusing", "refusing says no."), ("broken", "internal error")):
        *_, error = install(server, backend=backend)
        assert expected in error["error"].lower()
        assert not file_of(server).exists()

    assert {"success": True} == install(server, backend="good")[-1]


def test_a_file_that_cannot_be_written(serve):
    """Where the settings cannot be saved nothing has changed, the error names no path, and one can try again."""
    server = serve()
    file_of(server).mkdir()
    *_, error = install(server)
    assert "The settings file could not be written; the server's log says why." == error["error"]
    assert "modern_dark" == server.client().post("GetUserSettings")["settings"]["theme"]["value"]
    assert server.wait_for_log("could not save its settings.*swarmkernel.toml")
    file_of(server).rmdir()

    assert {"success": True} == install(server)[-1]


def begin(client, until, **choices):
    """Begin an installation and leave when a frame contains *until*."""
    with client.socket("InstallConfirmWS", **{**GOOD, **choices}) as ws:
        while until not in ws.recv(20):
            pass


def test_a_client_that_leaves(serve):
    """Before the settings are saved nothing is changed by who leaves; afterwards the server is installed."""
    server = serve()
    client = server.client()
    begin(client, "slow begins", backend="slow")
    assert server.wait_for_log("slow was given up")
    assert not file_of(server).exists()
    _until_free(server, "slow begins", backend="good", models="slow")

    assert settings(server)["basic_api"]["default_user"]["language"] == "de"
    deadline = time.monotonic() + 10
    while sum("slow was given up" in line for line in server.log) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert 2 == sum("slow was given up" in line for line in server.log)
    assert "installed already" in install(server)[-1]["error"]


def _until_free(server, until, **choices):
    """Begin again as soon as the first attempt has ended."""
    client = server.client()
    for _ in range(100):
        with client.socket("InstallConfirmWS", **{**GOOD, **choices}) as ws:
            for message in ws:
                if until in message:
                    return
                if "running already" in message:
                    break
        time.sleep(0.05)
    raise TimeoutError


def test_two_at_once(serve):
    """While one installation runs another is refused."""
    server = serve()
    with server.client().socket("InstallConfirmWS", **{**GOOD, "backend": "slow"}) as ws:
        while "slow begins" not in ws.recv(20):
            pass
        assert "running already" in install(server)[-1]["error"]


def test_with_a_lan(serve, tmp_path):
    """For a network, the settings demand accounts and know this machine's names; the client hears what comes next."""
    pytest.importorskip("swarmkernel_accounts")
    server = serve(data_dir=tmp_path, **enabled("accounts"))
    frames = install(server, installed_for="just_self_lan")
    assert {"success": True} == frames[-1]
    told = " ".join(f.get("info", "") for f in frames)
    assert "next start" in told
    assert "swarmkernel users add NAME --role owner" in told
    name = socket.gethostname().lower()
    hosts = list(dict.fromkeys([name, name.partition(".")[0] + ".local"]))
    assert {"host": "0.0.0.0", "hosts": hosts} == settings(server)["server"]
    assert {"required": True} == settings(server)["accounts"]
    server.stop()
    server.start()

    client = server.client(login=False)
    client.http.base_url = server.url.replace("127.0.0.1", "127.0.0.2")
    for host in hosts:
        answer = client.raw("GetNewSession", headers={"Host": host})
        assert (403, "setup_required") == (answer.status_code, answer.json()["error_id"])
