"""A broken plugin costs that plugin and nothing else."""

from importlib.metadata import entry_points

import pytest

from swarmkernel import StartupError
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
    "mounts": """
from swarmkernel import hookimpl
@hookimpl
def swarm_mounts(services): 1 / 0
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
        return swarm_boot(disabled=OURS, **plugins)

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
    """A plugin for another version of the plugin API is not imported."""
    swarm_dists.add("future", "raise SystemExit", group="swarmkernel.v2")

    assert "future" not in {p.name for p in only().plugins}


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

    assert {"pong": True} == server.client(login=False).post("Ping")
    assert 0 == server.stop()


def test_the_route_of_a_failed_plugin_names_it(swarm_dists, only, swarm_serve):
    """A route whose plugin failed in its lifespan answers with an error that names the plugin."""
    swarm_dists.add("abroken", GOOD + LATE["lifespan raises"])
    answer = swarm_serve(*only.options).client(login=False).post("Ping")

    assert "abroken" in answer["error"]
    assert "internal_error" == answer["error_id"]
