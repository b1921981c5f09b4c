"""Workers in another interpreter, which has what the server's has not."""

import subprocess
import sys
import sysconfig
import time

import attrs
import pytest

from swarmkernel import SettingsSource, StartupError
from swarmkernel.kernel import Kernel
from swarmkernel_backend_api import BackendType, setting

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

        assert "blue" == self.settings.colour

    async def stop(self): ...


@hookimpl
def backend_types():
    return [BackendType("demanding", "Demanding", make=Demanding, settings=Settings)]
"""


@pytest.fixture(name="other")
def _other(tmp_path):
    """An interpreter that sees what this one sees, and one package more."""
    folder = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    (packages / "only_there.py").touch()
    return folder / "bin" / "python"


def test_a_worker_runs_where_its_backend_says(swarm_serve, swarm_dists, other, tmp_path):
    """A backend whose library is missing fails, and runs once it names an interpreter that has it, also after a restart."""
    swarm_dists.add("demanding", PLUGIN, requires=["swarmkernel-backend-api"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "swarmkernel.toml").write_text(
        f"[backend_api]\nmax_init_attempts = 1\ninterpreters.other = '{other}'\n"
    )
    only = [x for name in ("basic_api", "store_sql", "backend_api", "demanding") for x in ("--only", name)]
    server = swarm_serve(*only)
    client = server.client()
    (kind,) = client.post("ListBackendTypes")["list"]
    wishes = {"python": "other", "Colour": "blue"}

    number = client.post("AddNewBackend", type_id="demanding")["id"]
    assert "errored" == state(client, number)
    assert "invalid_setting" in str(edited(client, number, {"python": str(other)}))
    assert wishes == edited(client, number, wishes)["settings"]
    assert "running" == state(client, number)
    assert [["", "other"]] == [f["values"] for f in kind["settings"] if f["name"] == "python"]
    server.stop()
    client = server.start().client()
    assert "running" == state(client, number)
    assert wishes == client.post("ListBackends")[str(number)]["settings"]


def edited(client, number, settings):
    """What the server says to an edit."""
    return client.post("EditBackend", backend_id=number, title="It", settings=settings)


def state(client, number):
    """The status of a backend, once it has settled."""
    until = time.monotonic() + 30
    while (found := client.post("ListBackends")[str(number)]["status"]) in {"waiting", "loading"}:
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def test_interpreters_must_be_there():
    """An interpreter that is none stops the server, and is named."""
    wrong = {"SWARMKERNEL_BACKEND_API__INTERPRETERS": '{ gone = "/no/such/python" }'}

    with pytest.raises(StartupError, match=r"interpreters\.gone must be the whole path"):
        Kernel.boot(SettingsSource(None, wrong, {"plugins": {"enabled": ["backend_api"]}}))


def test_the_name_is_taken():
    """A type cannot have a setting `python` of its own."""

    @attrs.frozen
    class Settings:
        python: str = setting("")

    with pytest.raises(ValueError, match="'python' is the server's own"):
        BackendType("x", "X", make="x:X", settings=Settings)
