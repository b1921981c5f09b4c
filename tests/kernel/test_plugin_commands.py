"""What `swarmkernel plugins` says."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from swarmkernel.inspection import findings

OURS = sorted(ep.name for ep in entry_points(group="swarmkernel.v1"))
GOOD = '''
import attrs
from swarmkernel import PUBLIC, Level, Permission, Route, hookimpl

SHINE = Permission("shine", "Shine", group="Probe", default=Level.USER)

@attrs.frozen
class Settings:
    motto: str = "Keep it small."

async def shine(call):
    """Shines."""

@hookimpl
def swarm_routes(): return [Route("Shine", shine, permission=SHINE)]

@hookimpl
def swarm_settings(): return Settings
'''
FAILING = "import no_such_module"
BROKEN = {
    "it loads, and its settings have defaults": FAILING,
    "it requires what it imports": "import httpx\n" + GOOD,
    "its hooks have answers": GOOD + "@hookimpl\ndef swarm_commands(): yield 1 / 0\n",
    "its handlers say what they do": GOOD.replace('"""Shines."""', "..."),
    "its permissions have names": GOOD.replace('"Shine", group="Probe"', '"", group="Probe"'),
}


@pytest.fixture(name="command")
def _command(tmp_path, monkeypatch):
    """Run `swarmkernel plugins ...` without the plugins of this environment; returns exit code, output and errors."""
    monkeypatch.setenv("SWARMKERNEL_PLUGINS__DISABLED", json.dumps(OURS))

    def run(*args):
        done = subprocess.run(
            [sys.executable, "-m", "swarmkernel", "plugins", *args],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_list(command, swarm_dists):
    """`list` tells origin, state, hooks, routes, permissions and error of each plugin, and is what no subcommand does."""
    swarm_dists.add("good", GOOD, requires=["attrs"])
    swarm_dists.add("abroken", FAILING)

    found = {row.pop("name"): row for row in json.loads(command("list", "--json")[1])}

    good = {"origin": "good 1.0", "distribution": "good", "version": "1.0", "state": "ok", "error": None}
    added = {"hooks": ["swarm_routes", "swarm_settings"], "routes": 1, "permissions": ["shine"]}
    assert good | added == found["good"]
    assert ("failed", []) == (found["abroken"]["state"], found["abroken"]["hooks"])
    assert "no_such_module" in found["abroken"]["error"]
    assert {"good", "abroken"} == found.keys()
    line = "good\tgood 1.0\tok\t1 routes\t1 permissions\tswarm_routes swarm_settings\n"
    assert line in command("list")[1]
    assert command("list") == command()
    assert command("list", "--json") == command("--json")


def test_list_of_some(command, swarm_dists):
    """`--all` adds those that are kept out, `--hook` leaves those that implement it."""
    swarm_dists.add("good", GOOD)
    swarm_dists.add("bare", "")

    everything = {row["name"]: row["state"] for row in json.loads(command("list", "--all", "--json")[1])}
    hooked = json.loads(command("list", "--hook", "swarm_routes", "--json")[1])

    assert dict.fromkeys(OURS, "disabled") | {"good": "ok", "bare": "ok"} == everything
    assert ["good"] == [row["name"] for row in hooked]


@pytest.mark.parametrize("where", ["file", "environment", "flag"])
def test_kept_out(command, swarm_dists, tmp_path, monkeypatch, where):
    """A plugin denied by file, environment or flag is not imported, and `--disable` lets in nobody whom another denies."""
    swarm_dists.add("bomb", "raise SystemExit('it was imported')")
    swarm_dists.add("bare", "")
    (tmp_path / "data").mkdir()
    denied = f"disabled = {[*OURS, 'bomb'] if where == 'file' else OURS}"
    (tmp_path / "data" / "swarmkernel.toml").write_text(f"[plugins]\n{denied}\n")
    if where == "environment":
        monkeypatch.setenv("SWARMKERNEL_PLUGINS__DISABLED", json.dumps([*OURS, "bomb"]))
    else:
        monkeypatch.delenv("SWARMKERNEL_PLUGINS__DISABLED")
    options = ("--disable", "bomb") if where == "flag" else ("--disable", "bare")

    found = {row["name"]: row["state"] for row in json.loads(command("list", "--all", "--json", *options)[1])}

    assert (
        dict.fromkeys(OURS, "disabled")
        | {
            "bomb": "disabled",
            "bare": "ok" if where == "flag" else "disabled",
        }
        == found
    )


def test_a_hook_that_there_is_not(command):
    """`--hook` with a word that is no hook says so, and does not pretend that nobody implements it."""
    code, _, err = command("list", "--hook", "swarm_rotues")

    assert (1, True) == (code, "'swarm_rotues'" in err)


def test_info(command, swarm_dists):
    """`info` tells settings, requirements and entry point, the traceback of a failure, and who is unknown."""
    swarm_dists.add("good", GOOD, requires=["attrs>=25"])
    swarm_dists.add("abroken", FAILING)

    good = json.loads(command("info", "good", "--json")[1])
    broken = json.loads(command("info", "abroken", "--json")[1])

    assert ({"motto": "Keep it small."}, ["attrs>=25"], "good") == (
        good["settings"],
        good["requirements"],
        good["entry_point"],
    )
    assert (None, "swarmkernel.v1", ["Shine"]) == (good["traceback"], good["api"], good["route_names"])
    assert "abroken.py" in broken["traceback"]
    assert "traceback" not in command("info", "good")[1]
    assert 'settings: motto = "Keep it small."\n' in command("info", "good")[1]
    assert (1, True) == (command("info", "ghost")[0], "'ghost'" in command("info", "ghost")[2])


def test_info_of_a_distribution(command, swarm_dists):
    """`info` also takes the name of a distribution, and tells what its authors say of it."""
    swarm_dists.add("good_thing", GOOD)
    (info,) = swarm_dists.folder.glob("good*.dist-info")
    with (info / "METADATA").open("a") as file:
        file.write("Summary: Shines\nLicense-Expression: MIT\nProject-URL: Home, https://good.example\n")

    said = command("info", "Good-Thing")[1]

    assert [] == [
        line
        for line in (
            "name: good_thing",
            "summary: Shines",
            "license: MIT",
            "links: Home, https://good.example",
        )
        if line not in said.splitlines()
    ]


@pytest.mark.parametrize("rule", BROKEN)
def test_check(command, swarm_dists, rule):
    """`check` exits with 1 and names the one rule that a plugin breaks."""
    swarm_dists.add("broken", BROKEN[rule], requires=["attrs", "swarmkernel"])

    code, out, _ = command("check", "broken", "--json")

    assert (1, True) == (code, rule in {f["rule"] for f in json.loads(out) if f["wrong"]})
    assert f"not ok: {rule}\n  " in command("check", "broken")[1]


def test_check_reads_all(command, swarm_dists):
    """`check` names a module that is no Python, also one that only a worker would import."""
    swarm_dists.add("good", GOOD, requires=["attrs", "swarmkernel"])
    swarm_dists.add("typo", "def (")

    code, out, _ = command("check", "typo")

    assert (1, True) == (code, "typo.py:1 is no Python: invalid syntax" in out)


def test_check_names(command, swarm_dists):
    """`check` does not like a name that cannot be a table of the settings."""
    swarm_dists.add("Loud", GOOD, requires=["attrs", "swarmkernel"])

    assert "not ok: its entry point" in command("check", "Loud")[1]


def test_check_is_content(command, swarm_dists):
    """`check` exits with 0 for a plugin that keeps all rules, and imports what is optional late."""
    late = GOOD + "def later():\n    import httpx\n"
    swarm_dists.add("good", late, requires=["attrs", "swarmkernel", 'httpx; extra == "web"'])

    code, out, _ = command("check", "good")

    assert (0, True) == (code, all(line.startswith("ok: ") for line in out.splitlines()))


def test_ours_pass(swarm_boot):
    """Every plugin of this repository keeps the rules."""
    kernel = swarm_boot()

    broken = {p.name: [f for f in findings(kernel, p) if f.wrong] for p in kernel.plugins}
    assert {name: [] for name in OURS} == broken


def test_new(command, tmp_path):
    """`new` writes a package that passes `check` and its own tests, and refuses folders that are not empty."""
    code, out, _ = command("new", "my_thing")
    folder = tmp_path / "my_thing"

    assert (0, True) == (code, "my_thing/src/swarmkernel_my_thing/plugin.py" in out)
    assert 'name = "swarmkernel-my-thing"' in (folder / "pyproject.toml").read_text()
    assert "class MyThingSettings" in (folder / "src" / "swarmkernel_my_thing" / "settings.py").read_text()
    assert [] == [path for path in folder.rglob("*") if path.is_file() and "xample" in path.read_text()]
    assert (1, True) == (command("new", "my_thing")[0], "is not empty" in command("new", "my_thing")[2])
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "lib"), "SWARMKERNEL_PLUGINS__DISABLED": "[]"}
    env["SWARMKERNEL_PLUGINS__ENABLED"] = '["basic_api", "my_thing"]'
    for step in (
        [*pip, "--target", tmp_path / "lib", folder],
        [sys.executable, "-m", "swarmkernel", "plugins", "check", "my_thing"],
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder],
    ):
        done = subprocess.run(step, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["Big-Name"], "'Big-Name'"),
        (["server"], "none of plugins, server"),
        (["x", "--kind", "no"], "routes: "),
    ],
)
def test_new_refuses(command, args, said):
    """`new` refuses what cannot be a name, and names the kinds that there are."""
    code, _, err = command("new", *args)

    assert (1, True) == (code, said in err)
