"""Workers in another interpreter, which has what the server's has not."""

import os
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import version

import attrs
import pytest

from swarmkernel import SettingsSource, StartupError
from swarmkernel.kernel import Kernel
from swarmkernel_backend_api import BackendType, NoSettings, setting
from swarmkernel_backend_api.interpreters import Interpreter

PLUGIN = """
import attrs

from swarmkernel_backend_api import BackendType, hookimpl, setting


@attrs.frozen
class Settings:
    colour: str = setting("red", title="Colour")


@attrs.define
class Demanding:
    settings: Settings

    async def start(self):
        import only_there
        from of_both import WHOSE

        assert "the environment's" == WHOSE
        assert "blue" == self.settings.colour

    async def stop(self): ...


@hookimpl
def backend_types():
    return [BackendType("demanding", "Demanding", make=Demanding, settings=Settings)]
"""


@pytest.fixture(name="environment")
def _environment(tmp_path):
    """Make an empty virtual environment; returns its interpreter and its folder of packages."""

    def made(name):
        folder = tmp_path / name
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (packages,) = folder.glob("lib/*/site-packages")
        return folder / "bin" / "python", packages

    return made


def see_ours(packages, *more):
    """Let an environment see what this one sees, and other folders."""
    folders = [sysconfig.get_path("purelib"), *map(str, more)]
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in folders]
    (packages / "beside.pth").write_text("".join(lines))


@pytest.fixture(name="other")
def _other(environment, swarm_dists):
    """An interpreter that sees what this one sees, and one package more, and of another a version of its own."""
    python, packages = environment("other")
    see_ours(packages, swarm_dists.folder)
    (packages / "only_there.py").touch()
    (packages / "of_both.py").write_text('WHOSE = "the environment\'s"')
    (swarm_dists.folder / "of_both.py").write_text('WHOSE = "the server\'s"')
    return python


@pytest.fixture(name="serve")
def _serve(swarm_serve, swarm_dists, tmp_path):
    """A server with the backend type and these interpreters."""
    swarm_dists.add("demanding", PLUGIN, requires=["swarmkernel-backend-api"])
    (tmp_path / "data").mkdir()
    only = [x for name in ("basic_api", "store_sql", "backend_api", "demanding") for x in ("--only", name)]

    def served(interpreters):
        lines = [f"interpreters.{name} = '{path}'\n" for name, path in interpreters.items()]
        (tmp_path / "data" / "swarmkernel.toml").write_text(
            "[backend_api]\nmax_init_attempts = 0\n" + "".join(lines)
        )
        return swarm_serve(*only)

    return served


def test_a_worker_runs_where_its_backend_says(serve, other):
    """A backend whose library is missing fails, and runs once it names an interpreter that has it, also after a restart."""
    server = serve({"other": other})
    client = server.client()
    (kind,) = client.post("ListBackendTypes")["list"]
    wishes = {"python": "other", "Colour": "blue"}

    number = client.post("AddNewBackend", type_id="demanding")["id"]
    assert ("errored", "ModuleNotFoundError: No module named 'only_there'") == state(client, number)
    assert "invalid_setting" in str(edited(client, number, {"python": str(other)}))
    assert wishes == edited(client, number, wishes)["settings"]
    assert ("running", "") == state(client, number)
    assert [["", "other"]] == [f["values"] for f in kind["settings"] if f["name"] == "python"]
    server.stop()
    client = server.start().client()
    assert ("running", "") == state(client, number)
    assert wishes == client.post("ListBackends")[str(number)]["settings"]


def test_an_interpreter_that_is_withdrawn(serve, other):
    """A backend whose interpreter the settings name no longer is errored, and does not run in the server's own."""
    server = serve({"other": other})
    client = server.client()
    number = client.post("AddNewBackend", type_id="demanding")["id"]
    edited(client, number, {"python": "other", "Colour": "blue"})
    assert ("running", "") == state(client, number)
    server.stop()

    client = serve({}).client()
    lost = "The settings of the server no longer name the interpreter 'other'."
    assert ("errored", lost) == state(client, number)
    edited(client, number, {"python": "", "Colour": "red"})
    assert "ModuleNotFoundError: No module named 'only_there'" == state(client, number)[1]


def script(path, text):
    """A program of this text."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(name="wrong")
def _wrong(environment, swarm_dists, tmp_path):
    """Interpreters of all kinds that cannot run a worker, by the names that the settings give them."""
    python, packages = environment("differing")
    see_ours(packages, swarm_dists.folder)
    info = packages / "swarmkernel_backend_api-0.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: swarmkernel-backend-api\nVersion: 0.9\n")
    (info / "entry_points.txt").write_text("[swarmkernel.v1]\nbackend_api = swarmkernel_backend_api.plugin\n")
    (tmp_path / "text").write_text("no program")
    return {
        "gone": tmp_path / "gone",
        "folder": tmp_path,
        "text": tmp_path / "text",
        "cat": "/bin/cat",
        "chatty": script(tmp_path / "chatty", "yes"),
        "old": script(tmp_path / "old", """echo 'swarmkernel-interpreter:[[3, 8], [], {}]'"""),
        "empty": environment("empty")[0],
        "differing": python,
    }


def test_wrong_interpreters(serve, wrong):
    """A backend in an interpreter that cannot run its worker is errored, and says what is wrong with which."""
    server = serve(wrong)
    client = server.client()
    number = client.post("AddNewBackend", type_id="demanding")["id"]
    for name in ("gone", "text"):
        server.wait_for_log(f"the interpreter {name} of the settings cannot be run: {wrong[name]}")

    said = {}
    for name in wrong:
        edited(client, number, {"python": name})
        status, said[name] = state(client, number)
        assert "errored" == status

    assert {
        "gone": "The interpreter 'gone' cannot be run: No such file or directory.",
        "folder": "The interpreter 'folder' cannot be run: Permission denied.",
        "text": "The interpreter 'text' cannot be run: Permission denied.",
        "cat": "The interpreter 'cat' is no Python that works; what it said is in the server's log.",
        "chatty": "The interpreter 'chatty' is no Python that works; what it said is in the server's log.",
        "old": "The interpreter 'old' is Python 3.8; backends need 3.11 or later.",
        "empty": "The interpreter 'empty' has no demanding; install the backend's package there.",
        "differing": "The interpreter 'differing' has swarmkernel-backend-api 0.9 where the server has "
        f"{version('swarmkernel-backend-api')}; install the same version there.",
    } == said


async def test_no_code_of_the_working_directory_is_run(other, tmp_path, monkeypatch):
    """Looking at an interpreter runs no module that lies where the server was started or where its environment points."""
    (tmp_path / "json.py").write_text("open('trace', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    kind = BackendType("x", "X", make="attrs:Y", settings=NoSettings)

    await Interpreter(str(other), "other").check(kind, os.environ)

    assert not (tmp_path / "trace").exists()


def edited(client, number, settings):
    """What the server says to an edit."""
    return client.post("EditBackend", backend_id=number, title="It", settings=settings)


def state(client, number):
    """The status of a backend and the reason for it, once it has settled."""
    until = time.monotonic() + 30
    while (found := client.post("ListBackends")[str(number)])["status"] in {"waiting", "loading"}:
        assert time.monotonic() < until
        time.sleep(0.05)
    return found["status"], found["reason"]


def test_interpreters_are_whole_paths():
    """A path that would depend on the working directory stops the server, and is named."""
    wrong = {"SWARMKERNEL_BACKEND_API__INTERPRETERS": '{ near = "venv/bin/python" }'}

    with pytest.raises(StartupError, match=r"interpreters\.near must be the whole path"):
        Kernel.boot(SettingsSource(None, wrong, {"plugins": {"enabled": ["backend_api"]}}))


def test_the_name_is_taken():
    """A type cannot have a setting `python` of its own, by its name or by its title."""

    @attrs.frozen
    class Settings:
        python: str = setting("", title="Snake")

    @attrs.frozen
    class Titled:
        snake: str = setting("", title="python")

    for kind in (Settings, Titled):
        with pytest.raises(ValueError, match="'python' is the server's own"):
            BackendType("x", "X", make="x:X", settings=kind)
