"""Servers to attack, shared by the tests of one module."""

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from swarmkernel.testing import FakeDistributions, LiveServer
from tests.security.people import REQUIRED, People, within

ROOT = Path(__file__).parents[1]

#: Nothing here needs real models.
LIGHT = ["--disable", "backends_torch", "--disable", "backends_onnx", "--disable", "starter_model"]
PROBE = '''
"""Tells what the kernel knows of a call, and fails in every way."""
import logging

from swarmkernel import PUBLIC, Route, RouteError, StoreError, hookimpl


async def who_calls(call):
    """Tell the address that limits count by, and whether the client sees https."""
    return {"client": call.client, "address": call.address, "secure": call.secure}


async def log_it(call, text: str, level: str = "info"):
    """Write *text* to the log as any plugin would."""
    log = logging.getLogger("probe")
    getattr(log, level)("said %s", text)
    log.getChild(text[:40]).info("from a logger of that name")
    return {}


async def echo(call, text: str = ""):
    """Say it back."""
    return {"text": text}


async def break_it(call, how: str, text: str = "x"):
    """Raise what a handler may raise."""
    failures = {
        "os": OSError(2, "No such file or directory", "/secret/place/" + text),
        "store": StoreError("SELECT value FROM /secret/place WHERE key = 'x'"),
        "key": KeyError("/secret/place"),
        "value": ValueError(text),
    }
    raise failures[how]


async def break_ws(call, how: str):
    """The same over a socket."""
    yield await break_it(call, how)


@hookimpl
def swarm_routes():
    return [
        Route(f.__name__, f, permission=PUBLIC) for f in (who_calls, log_it, echo, break_it, break_ws)
    ]
'''


def plugin(tmp_path_factory, name: str, code: str, **facts) -> dict[str, str]:
    """Variables that make a server see a plugin as installed."""
    folder = tmp_path_factory.mktemp(name)
    FakeDistributions(folder).add(name, code, **facts)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.fixture(name="start", scope="module")
def _start(tmp_path_factory):
    """Start servers that stop when the module's tests have run; keywords are environment variables."""
    started = []

    def start(*args, data_dir=None, probe=False, **env):
        if probe:
            env |= plugin(tmp_path_factory, "probe", PROBE)
        server = LiveServer(data_dir or tmp_path_factory.mktemp("data"), [*LIGHT, *args], env)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()


@pytest.fixture(name="painting", scope="module")
def _painting(start, tmp_path_factory):
    """Start a server with accounts, a backend that paints slowly when told to, and a model; everybody on it."""

    def start_one(*args, **env):
        data = tmp_path_factory.mktemp("data")
        models = data / "Models" / "Stable-Diffusion"
        models.mkdir(parents=True)
        facts = {"modelspec.architecture": "stable-diffusion-v1"}
        save_file({"weight": np.zeros((2, 2), np.float16)}, models / "alpha.safetensors", facts)
        painter = (ROOT / "soak" / "painter.py").read_text()
        requires = ["swarmkernel", "swarmkernel-backend-api", "swarmkernel-t2i-api"]
        env = {**REQUIRED, "PAINTER_SLOTS": "50", "SWARMKERNEL_T2I_API__SOCKET_GRACE": "0.1", **env}
        env |= plugin(tmp_path_factory, "painter", painter, requires=requires)
        people = People(start(*args, data_dir=data, **env))
        within(60, lambda: people.owner.post("GetCurrentStatus")["backend_status"]["status"] == "running")
        return people

    return start_one
