"""What is installed, and what the lists of the settings keep out."""

from importlib.metadata import entry_points

import pytest

from swarmkernel import StartupError
from swarmkernel.inspection import findings
from swarmkernel.inventory import details, facts

OURS = sorted(ep.name for ep in entry_points(group="swarmkernel.v1"))
GOOD = """
from swarmkernel import PUBLIC, Route, hookimpl
async def ping(call): return {"pong": True}
@hookimpl
def swarm_routes(): return [Route("Ping", ping, permission=PUBLIC)]
"""
#: What lies in the folder of a distribution that was not wholly installed or removed.
HALF = {
    "no metadata": {"METADATA": None},
    "no name": {"METADATA": b"Version: 1.0\n"},
    "binary metadata": {"METADATA": b"\xff\xfe"},
    "no value": {"entry_points.txt": b"[swarmkernel.v1]\nabroken\n"},
    "binary entry points": {"entry_points.txt": b"[swarmkernel.v1]\nabroken = \xff\n"},
}
NAMES = ["extra_one", "Extra-One", "some_extras", "Some.Extras", "some-extras"]


@pytest.fixture(name="extras")
def _extras(swarm_dists):
    """A distribution with one plugin of another name, which leaves a trace when it is imported."""
    trace = swarm_dists.folder / "trace"
    swarm_dists.add("some_extras", f"open({str(trace)!r}, 'w').close()")
    set_entry_points(swarm_dists, "some_extras", "extra_one = some_extras")
    return trace


def set_entry_points(dists, name, *lines):
    """Let a distribution offer other plugins."""
    text = "\n".join(["[swarmkernel.v1]", *lines])
    (dists.folder / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(text)


@pytest.mark.parametrize("files", HALF.values(), ids=HALF)
def test_half_a_distribution(swarm_dists, swarm_boot, files):
    """A distribution that cannot be read is a failed plugin under its folder's name, told by every command; the others load."""
    swarm_dists.add("good", GOOD)
    swarm_dists.add("abroken", "")
    for name, content in files.items():
        file = swarm_dists.folder / "abroken-1.0.dist-info" / name
        file.unlink() if content is None else file.write_bytes(content)

    kernel = swarm_boot(disabled=OURS)

    [failed] = kernel.plugins.failed()
    assert ("abroken-1.0.dist-info", str(swarm_dists.folder)) == (failed.name, failed.origin)
    assert "good" == kernel.find("ping").plugin.name
    assert {"good", failed.name, *OURS} == {row.name for row in facts(kernel, everything=True)}
    assert "cannot be read" in details(kernel, failed.name).traceback
    assert any(finding.wrong for finding in findings(kernel, failed))
    assert not any(
        "cannot be checked" in wrong for p in kernel.plugins for f in findings(kernel, p) for wrong in f.wrong
    )
    with pytest.raises(StartupError, match="abroken"):
        swarm_boot(disabled=OURS, strict=True)
    assert [] == swarm_boot(disabled=[*OURS, failed.name]).plugins.failed()


def test_what_an_upgrade_left(swarm_dists, swarm_boot):
    """The rest of an older version does not stand in the way of the newer one, even where that is required."""
    swarm_dists.add("good", GOOD)
    swarm_dists.add("good", GOOD, version="0.9")
    (swarm_dists.folder / "good-0.9.dist-info" / "METADATA").unlink()

    kernel = swarm_boot(disabled=OURS, required=["good"])

    assert ["good-0.9.dist-info"] == [p.name for p in kernel.plugins.failed()]
    assert "good 1.0" == kernel.find("ping").plugin.origin


@pytest.mark.parametrize("value", ["not a module!", "abroken:no_such", "no_such", "..", "abroken:"])
def test_odd_entry_points(swarm_dists, swarm_boot, value):
    """An entry point that leads nowhere is a failed plugin, and `check` says so without a crash."""
    swarm_dists.add("good", GOOD)
    swarm_dists.add("abroken", "")
    set_entry_points(swarm_dists, "abroken", f"abroken = {value}")

    kernel = swarm_boot(disabled=OURS)

    [failed] = kernel.plugins.failed()
    assert "abroken 1.0" == failed.origin
    assert "NoneType" not in repr(failed.error)
    assert "good" == kernel.find("ping").plugin.name
    found = findings(kernel, failed)
    assert (True, False) == (bool(found[0].wrong), "NoneType" in str(found))


def test_one_module_twice(swarm_dists, swarm_boot):
    """A second plugin of the same module is set aside, not the first."""
    swarm_dists.add("good", GOOD)
    swarm_dists.add("twin", "")
    set_entry_points(swarm_dists, "twin", "twin = good")

    kernel = swarm_boot(disabled=OURS)

    assert ["twin"] == [p.name for p in kernel.plugins.failed()]
    assert "good" == kernel.find("ping").plugin.name


def test_an_extra_of_its_own(swarm_dists, swarm_boot):
    """A distribution may require extras of itself."""
    swarm_dists.add("good", GOOD, requires=['good[web]; extra == "all"'])

    assert ["good"] == [p.name for p in swarm_boot(disabled=OURS).plugins]


def test_a_circle_can_be_broken(swarm_dists, swarm_boot):
    """Plugins that require one another stop the server, unless one is kept out."""
    swarm_dists.add("hen", "", requires=["egg"])
    swarm_dists.add("egg", "", requires=["hen"])

    with pytest.raises(StartupError, match="require one another"):
        swarm_boot(disabled=OURS)
    assert ["egg"] == [p.name for p in swarm_boot(disabled=[*OURS, "hen"]).plugins]


@pytest.mark.parametrize("name", NAMES)
def test_names_on_lists(extras, swarm_boot, name):
    """Every list takes the name of a plugin or of its distribution, in any spelling."""
    assert ["extra_one"] == [
        p.name for p in swarm_boot(disabled=[*OURS, name]).plugins.left_out if p.name not in OURS
    ]
    assert not extras.exists()
    kernel = swarm_boot(enabled=[name], required=[name])
    assert (["extra_one"], []) == ([p.name for p in kernel.plugins], kernel.plugins.unknown())
    assert extras.exists()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_required_plugins(swarm_dists, extras, swarm_boot, name):
    """The failure of a plugin is fatal by whichever name it is required."""
    (swarm_dists.folder / "some_extras.py").write_text("1 / 0")

    with pytest.raises(StartupError, match=r"extra_one \(some_extras 1.0\) failed: ZeroDivisionError"):
        swarm_boot(disabled=OURS, required=[name])


@pytest.mark.parametrize("name", ["extra", "some-extras-1.0", "some extras", "", "extra_one_"])
def test_unknown_names(extras, swarm_boot, name):
    """A name that nobody has is told, and means no plugin."""
    kernel = swarm_boot(disabled=[*OURS, name], enabled=["extra_one", name])

    said = [f"{key}: {name}: no installed plugin has this name" for key in ("enabled", "disabled")]
    assert said == kernel.plugins.unknown()
    assert extras.exists()


def test_unknown_names_are_told(swarm_dists, swarm_serve, tmp_path):
    """`serve` warns of a name on a list that nobody has."""
    server = swarm_serve("--only", "store_sql", "--disable", "acounts")

    assert "WARNING" in server.wait_for_log("disabled: acounts: no installed plugin")
    assert 0 == server.stop()


def test_why_required_plugins_are_missing(swarm_dists, swarm_boot):
    """A required plugin that is kept out is not called absent."""
    swarm_dists.add("good", GOOD)

    with pytest.raises(StartupError, match=r"ghost \(not installed\), good \(kept out by the settings\)"):
        swarm_boot(required=["good", "ghost"], disabled=["Good"])


@pytest.mark.parametrize("word", ["first", "second"])
def test_each_test_has_its_own(swarm_dists, swarm_boot, word):
    """A fake plugin is not the one that an earlier test had under the same name."""
    swarm_dists.add("mine", f"WORD = {word!r}")

    assert [word] == [p.module.WORD for p in swarm_boot(disabled=OURS).plugins]
