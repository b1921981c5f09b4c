"""A server with nothing but the kernel and one plugin that exercises it."""

import os
from importlib.metadata import entry_points

import pytest

from swarmkernel.testing import FakeDistributions, LiveServer

OURS = sorted(ep.name for ep in entry_points(group="swarmkernel.v1"))
ALONE = [option for name in OURS for option in ("--disable", name)]
PROBE = '''
import asyncio
from starlette.responses import JSONResponse
from starlette.routing import Route as Page

from swarmkernel import PUBLIC, Audit, Body, Level, Permission, Route, RouteError, Sessions, Vault, hookimpl, viewer

YES = Permission("yes", "Yes", group="Probe", default=Level.USER)
NO = Permission("no", "No", group="Probe", default=Level.USER)

async def new(call):
    """Open a session."""
    session = await call.get(Sessions).open("local", call.address)
    return {"session_id": session.id}

async def echo(call, text: str, number: int = 1, real: float = 0.5, flag: bool = False, many: list[str] = [], maybe: str | None = None):
    """Say it back."""
    return {"text": text, "number": number, "real": real, "flag": flag, "many": many, "maybe": maybe}

async def whole(call, raw: Body):
    return {"raw": raw}

async def say_no(call):
    raise RouteError("not today", error_id="closed")

async def crash(call):
    return 1 / 0

async def nothing(call):
    return None

async def forbidden(call):
    return {}

async def slow(call, seconds: float):
    await asyncio.sleep(seconds)
    return {"slept": seconds}

async def count_ws(call, to: int):
    for n in range(to):
        yield {"n": n}

async def chat_ws(call):
    while (message := await call.receive()) is not None:
        yield {"echo": message}
        if message.get("bye"):
            return

async def crash_ws(call):
    yield {"n": 0}
    1 / 0

async def forever_ws(call):
    while True:
        yield {"tick": True}
        await asyncio.sleep(0.05)

async def where(call):
    call.reply_headers.extend([("set-cookie", "a=1"), ("set-cookie", "b=2")])
    return {"client": call.client, "address": call.address, "secure": call.secure}

async def change(call, name: str, secret: str = "", fail: str = ""):
    if fail:
        raise RouteError("not today", error_id=fail)
    return {"sealed": call.get(Vault).seal(secret)}

async def change_ws(call, name: str):
    yield {"n": 1}
    yield {"error": "half way", "error_id": "broken"}

async def watch_ws(call, name: str):
    while True:
        yield {"n": 1}
        await asyncio.sleep(0.05)

async def trail(call):
    rows = await call.get(Audit).entries()
    return {"rows": [[r.action, r.user_id, r.subject, r.result] for r in rows], "bad": await call.get(Audit).verify()}

@hookimpl
def swarm_mounts(services):
    async def who(request):
        session = await viewer(services, request)
        return JSONResponse([session and session.user_id])
    return [Page("/who", who)]

@hookimpl
def swarm_routes():
    return [
        Route("GetNewSession", new, permission=PUBLIC),
        Route("Echo", echo, permission=YES, touches_session=True, aliases=("OldEcho",)),
        Route("Whole", whole, permission=YES, large=True),
        Route("SayNo", say_no, permission=YES),
        Route("Crash", crash, permission=YES),
        Route("Nothing", nothing, permission=YES),
        Route("Forbidden", forbidden, permission=NO),
        Route("Slow", slow, permission=YES),
        Route("Where", where, permission=YES),
        Route("Change", change, permission=YES, audit=("name",)),
        Route("ChangeWS", change_ws, permission=YES, audit=("name",)),
        Route("WatchWS", watch_ws, permission=YES, audit=("name",)),
        Route("Trail", trail, permission=YES),
        Route("CountWS", count_ws, permission=YES),
        Route("ChatWS", chat_ws, permission=YES),
        Route("CrashWS", crash_ws, permission=YES),
        Route("ForeverWS", forever_ws, permission=YES),
    ]

@hookimpl
def swarm_vote(session, permission):
    return permission.id == "yes" or None
'''


@pytest.fixture(name="probe_env", scope="session")
def _probe_env(tmp_path_factory):
    """An environment in which the probe plugin is installed."""
    folder = tmp_path_factory.mktemp("probe")
    FakeDistributions(folder).add("probe", PROBE)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.fixture(name="probe")
def _probe(probe_env, swarm_serve):
    """Start servers that have the probe plugin alone."""

    def start(*args, **env):
        return swarm_serve(*ALONE, *args, **probe_env, **env)

    return start


@pytest.fixture(name="probe_server", scope="session")
def _probe_server(probe_env, tmp_path_factory):
    """One such server for all tests that leave it as it is."""
    with LiveServer(tmp_path_factory.mktemp("data"), ALONE, probe_env) as server:
        yield server


@pytest.fixture(name="client")
def _client(probe_server):
    """A client with a session on the shared probe server."""
    client = probe_server.client()
    yield client
    client.close()


@pytest.fixture(name="stranger")
def _stranger(probe_server):
    """A client without a session on the same server."""
    client = probe_server.client(login=False)
    yield client
    client.close()
