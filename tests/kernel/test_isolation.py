"""A broken plugin costs that plugin and nothing else."""

from importlib.metadata import entry_points

import pytest

from swarmkernel import Level, Permission, Session, StartupError
from swarmkernel.commands import boot

OURS = sorted(ep.name for ep in entry_points(group="swarmkernel.v1"))
GOOD = """
from swarmkernel import PUBLIC, Route, hookimpl
async def ping(call): return {"pong": True}
@hookimpl
def swarm_routes(): return [Route("Ping", ping, permission=PUBLIC)]
"""
BROKEN = {
    "import": "import no_such_module",
    "exit": "raise SystemExit(3)",
    "panic": "class Panic(BaseException): pass\nraise Panic('native code')",
    "syntax": "def (:",
    "exit in a hook": """
import sys
from swarmkernel import hookimpl
@hookimpl
def swarm_permissions(): sys.exit(0)
""",
    "exit while yielding": """
import sys
from swarmkernel import hookimpl
@hookimpl
def swarm_routes(): yield sys.exit(0)
""",
    "exit in settings": """
import attrs, sys
from swarmkernel import hookimpl
@attrs.frozen
class Settings:
    motto: str = attrs.field(factory=sys.exit)
@hookimpl
def swarm_settings(): return Settings
""",
    "no route": """
from types import SimpleNamespace
from swarmkernel import hookimpl
@hookimpl
def swarm_routes(): return [SimpleNamespace(handler=lambda call: None, permission=None)]
""",
    "name of a route": GOOD.replace('"Ping"', "7"),
    "older names of a route": GOOD.replace("permission", "aliases='Ding', permission"),
    "permission of a route": GOOD.replace("permission=PUBLIC", "permission='ping'"),
    "default of a parameter": GOOD.replace("(call)", "(call, x: str = object())"),
    "permission": """
from swarmkernel import hookimpl
@hookimpl
def swarm_permissions(): return ["fly"]
""",
    "argument": """
from swarmkernel import hookimpl
@hookimpl
def swarm_routes(nonsense): return []
""",
    "hook": """
from swarmkernel import hookimpl
@hookimpl
def no_such_hook(): return []
""",
    "declaration": """
from swarmkernel import hookimpl
@hookimpl
def swarm_routes(): yield 1 / 0
""",
    "addhooks": """
from swarmkernel import hookimpl
@hookimpl
def swarm_addhooks(pluginmanager): 1 / 0
""",
    "exit in addhooks": """
import sys
from swarmkernel import hookimpl
@hookimpl
def swarm_addhooks(pluginmanager): sys.exit(0)
""",
    "settings": """
import attrs
from swarmkernel import hookimpl
@attrs.frozen
class Settings:
    motto: str
@hookimpl
def swarm_settings(): return Settings
""",
    "params": """
from swarmkernel import PUBLIC, Route, hookimpl
async def handler(call, x: object): ...
@hookimpl
def swarm_routes(): return [Route("X", handler, permission=PUBLIC)]
""",
}
LATE = {
    "lifespan raises": """
from swarmkernel import hookimpl
@hookimpl
def swarm_lifespan(services): 1 / 0
""",
    "lifespan raises inside": """
from contextlib import asynccontextmanager
from swarmkernel import hookimpl
@asynccontextmanager
async def life():
    raise RuntimeError("no luck")
    yield
@hookimpl
def swarm_lifespan(services): return life()
""",
    "lifespan raises at the end": """
from contextlib import asynccontextmanager
from swarmkernel import hookimpl
@asynccontextmanager
async def life():
    yield
    raise RuntimeError("no luck")
@hookimpl
def swarm_lifespan(services): return life()
""",
    "lifespan exits": """
import sys
from contextlib import asynccontextmanager
from swarmkernel import hookimpl
@asynccontextmanager
async def life():
    sys.exit(0)
    yield
@hookimpl
def swarm_lifespan(services): return life()
""",
    "lifespan exits at the end": """
import sys
from contextlib import asynccontextmanager
from swarmkernel import hookimpl
@asynccontextmanager
async def life():
    yield
    sys.exit(3)
@hookimpl
def swarm_lifespan(services): return life()
""",
    "mounts": """
from swarmkernel import hookimpl
@hookimpl
def swarm_mounts(services): 1 / 0
""",
    "mounts of nothing": """
from swarmkernel import hookimpl
@hookimpl
def swarm_mounts(services): return [7]
""",
    "vote": """
from swarmkernel import hookimpl
@hookimpl
def swarm_vote(services, session, permission): 1 / 0
""",
}


@pytest.fixture(name="only")
def _only(swarm_boot):
    """Boot with the fake distributions alone."""

    def boot(**plugins):
        return swarm_boot(**{"disabled": OURS} | plugins)

    boot.options = [x for name in OURS for x in ("--disable", name)]
    return boot


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_set_aside(swarm_dists, only, code):
    """A plugin that breaks is set aside, named with its distribution, and the others work."""
    swarm_dists.add("abroken", code)
    swarm_dists.add("good", GOOD)

    kernel = only()

    assert ["abroken 1.0"] == [p.origin for p in kernel.plugins.failed()]
    assert "good" == kernel.find("ping").plugin.name


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN)
def test_a_required_plugin_stops_the_server(swarm_dists, only, code):
    """The failure of a plugin that is required is fatal and named."""
    swarm_dists.add("abroken", code)

    with pytest.raises(StartupError, match="abroken"):
        only(required=["abroken"])


@pytest.mark.parametrize(
    "code", ["raise KeyboardInterrupt", GOOD.replace("return", "raise KeyboardInterrupt #")]
)
def test_ctrl_c_is_nobodys_failure(swarm_dists, only, code):
    """Ctrl-C while a plugin is imported or asked ends the command."""
    swarm_dists.add("slow", code)

    with pytest.raises(KeyboardInterrupt):
        only()


@pytest.mark.parametrize("vote", ["1 / 0", "exit(0)"])
def test_a_vote_that_fails_refuses(swarm_dists, only, vote):
    """A vote that raises, whatever it raises, refuses what others allow."""
    head = "from swarmkernel import hookimpl\n@hookimpl\ndef swarm_vote(): "
    swarm_dists.add("abroken", head + vote)
    swarm_dists.add("good", head + "return True")
    permission = Permission("fly", "Fly", group="Air", default=Level.USER)
    session = Session("s", "ann", "here", 0.0, 0.0)

    assert not only().permissions.allowed(session, permission)
    assert only(disabled=[*OURS, "abroken"]).permissions.allowed(session, permission)


def test_strict(swarm_dists, only):
    """With strict, any failing plugin stops the server."""
    swarm_dists.add("abroken", "import no_such_module")

    with pytest.raises(StartupError, match="abroken"):
        only(strict=True)


def test_required_but_absent(only):
    """A required plugin that is not installed is named."""
    with pytest.raises(StartupError, match="ghost"):
        only(required=["ghost"])


def test_disabled_is_not_imported(swarm_dists, swarm_boot):
    """A disabled plugin is not even imported."""
    swarm_dists.add("bomb", "raise SystemExit")

    kernel = swarm_boot(disabled=["bomb"])

    assert "bomb" not in {p.name for p in kernel.plugins}


def test_only_the_enabled_are_imported(swarm_dists, swarm_boot, monkeypatch):
    """What is not on the allow-list is not even imported, whether file, environment or command line has the list."""
    canary = swarm_dists.folder / "canary"
    swarm_dists.add("bomb", f"open({str(canary)!r}, 'w').close()")
    swarm_dists.add("good", GOOD)
    swarm_dists.add("spare", GOOD.replace("Ping", "Pong"))

    kernel = swarm_boot(enabled=["good", "spare"], disabled=["spare"])
    assert ["good"] == [p.name for p in kernel.plugins]
    assert sorted([*OURS, "bomb", "spare"]) == sorted(p.name for p in kernel.plugins.left_out)
    monkeypatch.setenv("SWARMKERNEL_PLUGINS__ENABLED", '["good"]')
    assert ["good"] == [p.name for p in boot(config=None, data_dir=swarm_dists.folder).plugins]
    monkeypatch.setenv("SWARMKERNEL_PLUGINS__ENABLED", '["bomb"]')
    assert ["good"] == [
        p.name for p in boot(config=None, data_dir=swarm_dists.folder, only=("good",)).plugins
    ]
    assert not canary.exists()
    assert ["bomb"] == [p.name for p in boot(config=None, data_dir=swarm_dists.folder).plugins]
    assert canary.exists()


def test_a_required_plugin_off_the_list_stops_the_server(swarm_dists, swarm_boot):
    """A plugin that is required must be on the allow-list, too."""
    swarm_dists.add("good", GOOD)

    with pytest.raises(StartupError, match="required plugins missing: good"):
        swarm_boot(required=["good"], enabled=["other"])


def test_duplicate_route(swarm_dists, only):
    """Two owners of a route name stop the server with a message that names both distributions."""
    swarm_dists.add("good", GOOD)
    swarm_dists.add("thief", GOOD.replace('"Ping"', '"pING"'))

    with pytest.raises(StartupError, match=r"thief 1\.0.*good 1\.0|good 1\.0.*thief 1\.0"):
        only()


def test_differing_permission(swarm_dists, only):
    """Two plugins that mean different things by one permission id stop the server."""
    code = """
from swarmkernel import Level, Permission, hookimpl
@hookimpl
def swarm_permissions(): return [Permission("fly", NAME, group="Air", default=Level.USER)]
"""
    swarm_dists.add("one", f"NAME = 'Fly'\n{code}")
    swarm_dists.add("two", f"NAME = 'Soar'\n{code}")

    with pytest.raises(StartupError, match=r"one 1\.0.*fly|two 1\.0.*fly"):
        only()


def test_other_api_version(swarm_dists, only):
    """A plugin for another version of the plugin API is not imported, and set aside with both versions in its error."""
    swarm_dists.add("future", "raise SystemExit", group="swarmkernel.v2")
    swarm_dists.add("good", GOOD)

    future, good = only().plugins

    assert ("future", None, None) == (future.name, future.module, good.error)
    assert "swarmkernel.v2, and this server has swarmkernel.v1" in str(future.error)


def test_both_api_versions(swarm_dists, only):
    """A plugin that is written for this version too is taken by that entry point, and nothing else of it is imported."""
    swarm_dists.add("good", GOOD)
    (info,) = swarm_dists.folder.glob("good*.dist-info")
    text = (info / "entry_points.txt").read_text()
    (info / "entry_points.txt").write_text(f"[swarmkernel.v2]\ngood = no_such\n\n{text}")

    assert [("good", None)] == [(p.name, p.error) for p in only().plugins]


def test_names_of_the_server(swarm_dists, only):
    """A plugin with the name of a settings table of the server is set aside."""
    swarm_dists.add("server", GOOD)

    (plugin,) = only().plugins

    assert "[server]" in str(plugin.error)


def test_dependency_order(swarm_dists, only):
    """Plugins load after those that their distributions require, whatever their names."""
    swarm_dists.add("aaa", "", requires=["zzz>=1"])
    swarm_dists.add("zzz", "")

    assert ["zzz", "aaa"] == [p.name for p in only().plugins]


@pytest.mark.parametrize("code", LATE.values(), ids=LATE)
def test_a_plugin_that_fails_while_serving(swarm_dists, only, swarm_serve, code):
    """A plugin that fails in its lifespan, its mounts or its vote costs nobody else's public routes, and the server ends cleanly."""
    swarm_dists.add("abroken", code)
    swarm_dists.add("good", GOOD)
    server = swarm_serve(*only.options)

    client = server.client(login=False)
    assert {"pong": True} == client.post("Ping")
    assert 200 == client.http.get("/openapi.json").status_code
    assert 0 == server.stop()


def test_the_route_of_a_failed_plugin_names_it(swarm_dists, only, swarm_serve):
    """A route whose plugin failed in its lifespan answers with an error that names the plugin."""
    swarm_dists.add("abroken", GOOD + LATE["lifespan raises"])
    answer = swarm_serve(*only.options).client(login=False).post("Ping")

    assert "abroken" in answer["error"]
    assert "internal_error" == answer["error_id"]


def test_handlers_that_exit(swarm_dists, only, swarm_serve):
    """A handler that would end the process, over HTTP, a WebSocket or a mounted page, has failed, and the server goes on."""
    swarm_dists.add("good", GOOD)
    swarm_dists.add(
        "quitter",
        """
import sys
from starlette.routing import Route as Page
from swarmkernel import PUBLIC, Route, hookimpl
async def quit(call): sys.exit(0)
async def quit_ws(call):
    yield {"n": 1}
    sys.exit(0)
@hookimpl
def swarm_routes(): return [Route("Quit", quit, permission=PUBLIC), Route("QuitWS", quit_ws, permission=PUBLIC)]
@hookimpl
def swarm_mounts(services): return [Page("/quit", quit)]
""",
    )
    server = swarm_serve(*only.options)
    client = server.client(login=False)

    assert "internal_error" == client.post("Quit")["error_id"]
    assert "internal_error" == client.http.get("/quit").json()["error_id"]
    assert [{"n": 1}, "internal_error"] == [m.get("error_id", m) for m in client.stream("QuitWS")]
    assert {"pong": True} == client.post("Ping")
    assert 0 == server.stop()


def test_a_store_that_fails_is_told(swarm_dists, only, swarm_serve):
    """A store that cannot be opened stops the server, and is no crash."""
    swarm_dists.add("abroken", "from swarmkernel import hookimpl\n@hookimpl\ndef swarm_store(): 1 / 0")

    with pytest.raises(
        StartupError, match="swarmkernel: the store cannot be opened: ZeroDivisionError"
    ) as caught:
        swarm_serve(*only.options)
    assert "Traceback" not in str(caught.value)
