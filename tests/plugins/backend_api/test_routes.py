"""The eight routes, over HTTP, against a server in a process of its own."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmkernel.testing import Client, FakeDistributions, LiveServer

OTHERS = ["models_api", "t2i_api", "backends_torch", "backends_onnx", "backends_remote", "starter_model"]
ALONE = [option for name in OTHERS for option in ("--disable", name)]
PLUGIN = """
import attrs
from swarmkernel_backend_api import NewBackend, hookimpl
from swarmkernel_backend_api.testing import SYNTHETIC

@hookimpl
def backend_types():
    return [SYNTHETIC, attrs.evolve(SYNTHETIC, id="plain", name="Plain", is_standard=True, slots=lambda s: 1)]
"""
DEFAULTS = """
@hookimpl
def backend_defaults(services):
    return [NewBackend("synthetic", title="By default")]
"""
QUICK = {
    "SWARMKERNEL_BACKEND_API__INIT_PAUSE_SECONDS": "0.05",
    "SWARMKERNEL_BACKEND_API__MAX_INIT_ATTEMPTS": "1",
    "SWARMKERNEL_BACKEND_API__DRAIN_SECONDS": "1",
}


def serving(folder: Path, code: str = PLUGIN, **env: str) -> LiveServer:
    """A server of the working data folder with the synthetic types."""
    dists = folder / "dists"
    if not dists.exists():
        FakeDistributions(dists).add("synthetic_plugin", code, requires=["swarmkernel-backend-api"])
    paths = os.pathsep.join([str(dists), os.environ.get("PYTHONPATH", "")])
    return LiveServer(folder / "data", ALONE, {"PYTHONPATH": paths, **QUICK, **env})


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with serving(tmp_path_factory.mktemp("routes")) as server:
        yield server


@pytest.fixture(name="client")
def _client(server: LiveServer) -> Iterator[Client]:
    client = server.client()
    yield client
    for number in client.post("ListBackends", nonreal=True):
        client.post("DeleteBackend", backend_id=number)


def until(look: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.03)
    return found


def has_status(client: Client, number: int, status: str) -> Any:
    return until(lambda: (b := client.post("ListBackends")[str(number)])["status"] == status and b)


def add(client: Client, **settings: Any) -> int:
    number = client.post("AddNewBackend", type_id="synthetic")["id"]
    if settings:
        assert number == client.post("EditBackend", backend_id=number, title="", settings=settings)["id"]
    return number


def test_types_are_listed_with_their_forms(client: Client) -> None:
    """Every declared type is listed in order with its settings, and no other."""
    found = client.post("ListBackendTypes")["list"]
    assert ["synthetic", "plain"] == [kind["id"] for kind in found]
    assert {"id", "name", "description", "settings", "is_standard"} == set(found[0])
    assert [False, True] == [kind["is_standard"] for kind in found]
    forms = {entry["name"]: entry for entry in found[0]["settings"]}
    assert ("dropdown", "decimal", "integer", "text") == tuple(
        forms[name]["type"] for name in ("verb", "start_seconds", "slots", "Colour")
    )
    assert forms["ApiKey"]["is_secret"]


def test_a_new_backend_is_shown_whole(client: Client) -> None:
    """A new backend is returned with every field of the wire, at first waiting, and then runs with its live features."""
    new = client.post("AddNewBackend", type_id="plain")
    number = new["id"]
    assert ("plain", "waiting", "", True, 0) == tuple(
        new[k] for k in ("type", "status", "title", "enabled", "modcount")
    )
    assert ("Never", 0, 1) == (new["time_since_used"], new["seconds_since_used"], new["max_usages"])
    shown = has_status(client, number, "running")
    assert ["synthetic", "synthetic_live"] == shown["features"]
    assert False is shown["can_load_models"]
    assert {"current_model", "via"}.isdisjoint(shown)
    full = client.post("ListBackends", full_data=True)[str(number)]
    assert (None, []) == (full["current_model"], full["via"])


def test_an_unknown_type_is_an_error(client: Client) -> None:
    """Adding an unknown type answers 200 with an error, and adds nothing."""
    answer = client.raw("AddNewBackend", {"session_id": client.session_id, "type_id": "nonsense"})
    assert (200, "unknown_backend_type") == (answer.status_code, answer.json()["error_id"])
    assert {} == client.post("ListBackends")


def test_deleting(client: Client) -> None:
    """Deleting answers literally, also for what is not there; the id may be text."""
    number = add(client)
    assert {"result": "Deleted."} == client.post("DeleteBackend", backend_id=str(number))
    assert {"result": "Already didn't exist."} == client.post("DeleteBackend", backend_id=number)
    assert "error" in client.post("DeleteBackend")
    assert "error" in client.post("DeleteBackend", backend_id="x")


def test_ids_grow(client: Client) -> None:
    """Ids grow by one and are not reused, and a backend moved upwards raises the next one."""
    first = add(client)
    second = add(client)
    client.post("DeleteBackend", backend_id=second)
    third = add(client)
    assert [first + 1, first + 2] == [second, third]
    moved = client.post("EditBackend", backend_id=third, title="M", settings={}, new_id=third + 5)
    assert (third + 5, "M", 1) == (moved["id"], moved["title"], moved["modcount"])
    assert str(third) not in client.post("ListBackends")
    assert "error" in client.post("EditBackend", backend_id=first, title="", settings={}, new_id=third + 5)
    assert third + 6 == add(client)


def test_secrets_never_leave(client: Client) -> None:
    """A stored secret shows as its marker; sending the marker back keeps it, and an empty text removes it."""
    number = add(client, ApiKey="hush", Colour="#111111")
    assert "\t<secret>" == has_status(client, number, "running")["settings"]["ApiKey"]
    edited = client.post(
        "EditBackend", backend_id=number, title="", settings={"ApiKey": "\t<secret>", "slots": "2"}
    )
    assert ("\t<secret>", 2, "#111111") == tuple(edited["settings"][k] for k in ("ApiKey", "slots", "Colour"))
    edited = client.post("EditBackend", backend_id=number, title="", settings={"ApiKey": ""})
    assert "" == edited["settings"]["ApiKey"]


def test_a_bad_edit_leaves_the_backend_running(client: Client) -> None:
    """An edit without settings or with a wrong value is an error that names it, and the backend was never stopped."""
    number = add(client)
    before = has_status(client, number, "running")
    for settings in ({"slots": "many"}, {"verb": "dance"}, [], None):
        answer = client.post("EditBackend", backend_id=number, title="T", settings=settings)
        assert "error" in answer
    assert (
        "'slots'" in client.post("EditBackend", backend_id=number, title="T", settings={"slots": []})["error"]
    )
    assert "error" in client.post("EditBackend", backend_id=number, title="T")
    assert "error" in client.post("EditBackend", backend_id=12345, title="T", settings={})
    assert before == client.post("ListBackends")[str(number)]


def test_toggling(client: Client) -> None:
    """Toggling answers literally, understands texts for booleans, and ends or starts the backend."""
    number = add(client)
    has_status(client, number, "running")
    assert {"result": "No change."} == client.post("ToggleBackend", backend_id=number, enabled="TRUE")
    assert {"result": "Success."} == client.post("ToggleBackend", backend_id=number, enabled=False)
    shown = client.post("ListBackends")[str(number)]
    assert ("disabled", False) == (shown["status"], shown["enabled"])
    assert {"result": "Success."} == client.post("ToggleBackend", backend_id=number, enabled="true")
    has_status(client, number, "running")
    assert "error" in client.post("ToggleBackend", backend_id=777, enabled=True)
    assert "error" in client.post("ToggleBackend", backend_id=number, enabled="yes")


def test_restarting(client: Client) -> None:
    """Restarting counts what it restarts, by id or all; an unknown id is none, and what is no id is an error."""
    numbers = [add(client), add(client)]
    for number in numbers:
        has_status(client, number, "running")
    assert {"result": "Success.", "count": 1} == client.post("RestartBackends", backend=numbers[0])
    has_status(client, numbers[0], "running")
    assert {"result": "Success.", "count": 2} == client.post("RestartBackends")
    assert {"result": "Success.", "count": 0} == client.post("RestartBackends", backend="999")
    assert "error" in client.post("RestartBackends", backend="everything")


def test_freeing_memory(client: Client) -> None:
    """Freeing memory with nothing running is false and 0; else true and how many gave some."""
    assert {"result": False, "count": 0} == client.post("FreeBackendMemory")
    numbers = [add(client), add(client)]
    for number in numbers:
        has_status(client, number, "running")
    assert {"result": True, "count": 2} == client.post("FreeBackendMemory", system_ram=True)
    assert {"result": True, "count": 1} == client.post("FreeBackendMemory", backend=str(numbers[1]))


def test_the_status_of_all(client: Client) -> None:
    """GetCurrentStatus tells of the backends: empty, loading, running, errored beside running, all switched off."""

    def status() -> Any:
        return client.post("GetCurrentStatus")["backend_status"]

    assert ("empty", "error", False) == tuple(status()[k] for k in ("status", "class", "any_loading"))
    number = add(client)
    has_status(client, number, "running")
    assert "running" == status()["status"]
    assert ["synthetic", "synthetic_live"] == client.post("GetCurrentStatus")["supported_features"]
    assert 1 == client.raw("GetNewSession").json()["count_running"]
    slow = add(client, start_seconds=60)
    has_status(client, slow, "loading")
    assert ("some_loading", "warn", True) == tuple(status()[k] for k in ("status", "class", "any_loading"))
    client.post("DeleteBackend", backend_id=slow)
    broken = add(client, verb="raise")
    has_status(client, broken, "errored")
    assert "errored" == status()["status"]
    client.post("ToggleBackend", backend_id=broken, enabled=False)
    assert "errored" == client.post("ListBackends")[str(broken)]["status"]
    assert "running" == status()["status"]
    client.post("ToggleBackend", backend_id=number, enabled=False)
    assert ("all_disabled", "error", False) == tuple(status()[k] for k in ("status", "class", "any_loading"))


def test_backends_outlive_the_server_and_its_end_is_clean(tmp_path: Path) -> None:
    """After SIGTERM no worker is left and the exit code is 0; after SIGKILL too; and each time the backends are there again."""
    server = serving(tmp_path)
    with server:
        client = server.client()
        number = add(client, ApiKey="hush", slots=3)
        client.post("EditBackend", backend_id=number, title="Kept", settings={})
        off = add(client)
        client.post("ToggleBackend", backend_id=off, enabled=False)
        has_status(client, number, "running")
        workers = children(server)
        assert 0 == server.stop()
        assert not any(map(alive, workers))
    with server:
        client = server.client()
        shown = has_status(client, number, "running")
        assert ("Kept", 3, "\t<secret>") == (shown["title"], shown["max_usages"], shown["settings"]["ApiKey"])
        assert "disabled" == client.post("ListBackends")[str(off)]["status"]
        workers = children(server)
        server.kill()
        until(lambda: not any(map(alive, workers)), 2)
        assert 1 == len(workers)
    with server:
        has_status(server.client(), number, "running")


def children(server: LiveServer) -> list[int]:
    assert server.process is not None
    pid = server.process.pid
    return [
        int(p)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for p in (task / "children").read_text().split()
    ]


def alive(pid: int) -> bool:
    try:
        return "Z" != Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_crashing_backend_costs_the_server_nothing(client: Client, server: LiveServer) -> None:
    """A backend that crashes natively at each start ends up errored, and the same server process answers on."""
    number = add(client, verb="segv")
    has_status(client, number, "errored")
    assert server.process is not None
    assert None is server.process.poll()


def test_a_failed_start_says_why(client: Client) -> None:
    """The list tells why a backend is errored, without its secret, and nothing of one that runs."""
    number = add(client, verb="raise", ApiKey="asked")
    assert "RuntimeError: as <secret>" == has_status(client, number, "errored")["reason"]
    client.post("EditBackend", backend_id=number, title="", settings={"verb": "ok"})
    assert "" == has_status(client, number, "running")["reason"]


POISON = """
import os
from pathlib import Path

with Path(__file__).with_suffix(".pids").open("a") as file:
    file.write(f"{os.getpid()} ")

def make(settings):
    from swarmkernel_backend_api.testing.synthetic import SyntheticBackend
    return SyntheticBackend(settings)
"""


def test_the_server_never_imports_what_a_worker_runs(tmp_path: Path) -> None:
    """The module that a type names as text is imported in the worker's process and in no other."""
    server = serving(tmp_path, PLUGIN.replace("slots=lambda s: 1", "make='poison:make'"))
    (tmp_path / "dists" / "poison.py").write_text(POISON)
    with server:
        client = server.client()
        number = client.post("AddNewBackend", type_id="plain")["id"]
        has_status(client, number, "running")
        workers = children(server)
        assert [str(pid) for pid in workers] == (tmp_path / "dists" / "poison.pids").read_text().split()


def test_first_start_adds_defaults_once(tmp_path: Path) -> None:
    """Proposed backends are added on the first start only: deleting them all is for good."""
    server = serving(tmp_path, PLUGIN + DEFAULTS)
    with server:
        client = server.client()
        assert ["By default"] == [b["title"] for b in client.post("ListBackends").values()]
        client.post("DeleteBackend", backend_id=0)
    with server:
        assert {} == server.client().post("ListBackends")


def test_locked_settings(tmp_path: Path) -> None:
    """With locked settings the five changing routes answer an error and change nothing; freeing memory and listing work."""
    server = serving(tmp_path, PLUGIN + DEFAULTS, SWARMKERNEL_BACKEND_API__LOCK_SETTINGS="true")
    with server:
        client = server.client()
        before = has_status(client, 0, "running")
        for route, body in {
            "AddNewBackend": {"type_id": "synthetic"},
            "DeleteBackend": {"backend_id": 0},
            "EditBackend": {"backend_id": 0, "title": "x", "settings": {}},
            "ToggleBackend": {"backend_id": 0, "enabled": False},
            "RestartBackends": {},
        }.items():
            assert "settings_locked" == client.post(route, **body)["error_id"]
        assert {"0": before} == client.post("ListBackends")
        assert {"result": True, "count": 1} == client.post("FreeBackendMemory")
