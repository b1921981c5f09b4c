"""The examples of docs/hooks.md, all of them installed into one server."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from swarmkernel.testing import FakeDistributions, LiveServer

HEADING = re.compile(r"`(\w+)\(([\w, ]*)\)`")


@pytest.fixture(name="examples", scope="module")
def _examples(page):
    """Hook -> its example, a whole module."""
    return {
        HEADING.match(block.heading)[1]: block.text
        for block in page("hooks.md").blocks()
        if block.kind == "python"
    }


@pytest.fixture(name="dists", scope="module")
def _dists(examples, tmp_path_factory):
    """Every example but the store's, as an installed plugin `example_<hook>`."""
    dists = FakeDistributions(tmp_path_factory.mktemp("dists"))
    for hook, code in examples.items():
        if hook != "swarm_store":
            dists.add(f"example_{hook}", code, requires=["swarmkernel-basic-api", "swarmkernel-t2i-api"])
    loras = dists.folder / "loras"
    loras.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (loras / "tiny.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return dists


@pytest.fixture(name="server", scope="module")
def _server(dists, tmp_path_factory):
    """One server with all of them."""
    env = {
        "PYTHONPATH": str(dists.folder),
        "SWARMKERNEL_EXAMPLE_SWARM_SETTINGS__MOTTO": "Do it well.",
    }
    args = ["--disable", "backends_torch", "--strict"]
    with LiveServer(tmp_path_factory.mktemp("data"), args, env) as server:
        yield server


@pytest.fixture(name="client", scope="module")
def _client(server):
    return server.client()


def test_complete(page, examples):
    """The page has each hook once, with the arguments of its specification, and an example of it."""
    from swarmkernel.kernel import Kernel
    from swarmkernel.settings import SettingsSource

    manager = Kernel.boot(SettingsSource(None, {})).plugins.manager
    callers = (getattr(manager.hook, name) for name in vars(manager.hook) if not name.startswith("_"))
    specified = {c.name: [*inspect.signature(c.spec.function).parameters] for c in callers if c.has_spec()}
    written = HEADING.findall("\n".join(re.findall("^### .+$", page("hooks.md").text, re.MULTILINE)))

    assert specified == {name: [a for a in arguments.split(", ") if a] for name, arguments in written}
    assert len(written) == len(specified)
    assert list(examples) == [name for name, _ in written]
    for name, code in examples.items():
        assert re.search(rf"@hookimpl(\(optionalhook=True\))?\ndef {name}\(", code), name


def test_swarm_addhooks(client):
    """A hook of a plugin's own gathers what others declare."""
    assert {"greetings": ["Hello"]} == client.post("ListGreetings")
    assert {"greetings": []} == client.post("ListGreetings", language="xx")


def test_swarm_routes(client):
    """The route answers, refuses, and streams as its page says."""
    assert {"greetings": ["Hello, Ada!"] * 2, "user": "local"} == client.post("Greet", name="Ada", times=2)
    assert "invalid_parameter" == client.post("Greet", name="Ada", times=11)["error_id"]
    assert [{"number": 1}, {"number": 2}] == client.stream("CountWS", to=2)


def test_swarm_permissions(client):
    """The permission is one that users have."""
    assert {"greet", "see_reports"} <= set(client.post("GetMyUserData")["permissions"])


def test_swarm_settings(client):
    """The operator's value is the one that the plugin sees."""
    assert {"motto": "Do it well."} == client.post("GetMotto")


def test_swarm_mounts(client):
    """The page is there, outside of the API."""
    assert re.fullmatch(r"[1-9]\d* sessions are live", client.http.get("/sessions-count").text)


def test_swarm_lifespan(client):
    """The service that the lifespan offered counts."""
    assert [1, 2] == [client.post("Visit", place="here")["visits"] for _ in range(2)]


def test_swarm_vote(client):
    """The one refusal wins over basic_api's approval."""
    assert "bad_permissions" == client.post("ServerDebugMessage", message="hi")["error_id"]
    assert "error" not in client.post("GetCurrentStatus")


def test_swarm_commands(dists, tmp_path):
    """The command runs."""
    done = subprocess.run(
        [Path(sys.executable).with_name("swarmkernel"), "hello", "Ada"],
        env={**os.environ, "PYTHONPATH": str(dists.folder)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "Hello, Ada!\n" == done.stdout


def test_swarm_templates(dists, tmp_path):
    """The files are copied under the name of the new plugin."""
    folder = dists.folder / "notes"
    folder.mkdir()
    (folder / "example.md.in").write_text("# Example of swarmkernel-example\n")
    subprocess.run(
        [Path(sys.executable).with_name("swarmkernel"), "plugins", "new", "my_notes", "--kind", "notes"],
        env={**os.environ, "PYTHONPATH": str(dists.folder)},
        cwd=tmp_path,
        check=True,
    )

    assert "# MyNotes of swarmkernel-my-notes\n" == (tmp_path / "my_notes" / "my_notes.md").read_text()


def test_swarm_store(swarm_dists, examples, swarm_serve):
    """The server uses the offered store, and so forgets as that one does."""
    swarm_dists.add("example_store", examples["swarm_store"])
    server = swarm_serve("--disable", "store_sql", "--disable", "backends_torch", "--strict")
    session = server.client().session_id
    server.stop()
    assert not re.search("no plugin offers a store", "".join(server.log))
    client = server.start().client(login=False)

    assert 401 == client.raw("GetCurrentStatus", {"session_id": session}).status_code


def test_basic_status(client):
    """What the plugin tells is what clients read."""
    assert "Back at noon." == client.post("GetCurrentStatus")["backend_status"]["message"]


def test_basic_new_session(client):
    """A new session is told more."""
    assert "Hello, local." == client.raw("GetNewSession").json()["example_welcome"]


def test_basic_interrupt(client, server):
    """The plugin hears of an interrupt."""
    client.post("InterruptAll", other_sessions=True)

    assert server.wait_for_log("interrupt by local, other sessions: True")


def test_basic_install(swarm_dists, examples, swarm_serve):
    """The step that the plugin gives is part of the installation, and its model is refused where nobody has it."""
    choices = {"theme": "modern_dark", "installed_for": "just_self", "backend": "none", "language": "en"}
    choices |= {"models": "example_model", "install_amd": False}
    without = swarm_serve("--disable", "backends_torch").client().stream("InstallConfirmWS", **choices)
    swarm_dists.add("example_install", examples["basic_install"])
    frames = swarm_serve("--disable", "backends_torch").client().stream("InstallConfirmWS", **choices)

    assert "error" in without[-1]
    assert {"info": "The example model is unpacked."} in frames
    assert {"success": True} == frames[-1]


def test_accounts_forget(client, server):
    """The plugin hears of a deleted user, and the name is free again afterwards."""
    who = {"name": "ada", "password": "correct horse", "role": "user"}
    assert {"success": True} == client.post("AdminAddUser", **who)
    assert {"success": True} == client.post("AdminDeleteUser", name="ada")

    assert server.wait_for_log("the favourites of ada are deleted")
    assert {"success": True} == client.post("AdminAddUser", **who)


def test_backend_types(client):
    """The type is listed with its form."""
    types = {t["id"]: t for t in client.post("ListBackendTypes")["list"]}

    assert ["local", "utc"] == types["clock"]["settings"][0]["values"]


def test_backend_defaults(client):
    """The proposed backend exists, with its settings."""
    backends = [b for b in client.post("ListBackends").values() if b["type"] == "clock"]

    assert [("Big Ben", {"zone": "utc"})] == [(b["title"], b["settings"]) for b in backends]


def test_models_folders(client):
    """The model that the plugin brings is listed."""
    models = client.post("ListModels", path="", depth=1, subtype="LoRA")

    assert ["tiny.safetensors"] == [m["name"] for m in models["files"]]


def test_t2i_params(client):
    """The parameter is listed under the id that the page says."""
    assert "sharpness" in {p["id"] for p in client.post("ListT2IParams")["list"]}
