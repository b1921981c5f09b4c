"""Servers to attack, shared by the tests of one module."""

import os

import pytest

from swarmkernel.testing import FakeDistributions, LiveServer

#: Nothing here needs real models.
LIGHT = ["--disable", "backends_torch", "--disable", "starter_model"]
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


@pytest.fixture(name="start", scope="module")
def _start(tmp_path_factory):
    """Start servers that stop when the module's tests have run; keywords are environment variables."""
    started = []

    def start(*args, data_dir=None, probe=False, **env):
        if probe:
            folder = tmp_path_factory.mktemp("probe")
            FakeDistributions(folder).add("probe", PROBE)
            paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
            env["PYTHONPATH"] = os.pathsep.join(paths)
        server = LiveServer(data_dir or tmp_path_factory.mktemp("data"), [*LIGHT, *args], env)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()
