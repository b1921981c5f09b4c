"""Whether plugins keep the rules is told of every plugin, whatever it is made of."""

import pytest

from swarmkernel import StartupError
from swarmkernel.inspection import findings
from swarmkernel.inventory import details, facts
from swarmkernel.scaffold import TEMPLATES

HOOK = "from swarmkernel import hookimpl\n@hookimpl\n"
#: source -> the words that tell what is wrong with it, or none.
ODD = {
    "no Python": (b"def (:", "invalid syntax"),
    "null bytes": (b"x = 1\0", "null"),
    "latin-1 said": (
        b"# coding: latin-1\nx = '\xe9'\n" + HOOK.encode() + b"def swarm_routes(): return ()",
        None,
    ),
    "latin-1 unsaid": (b"x = '\xe9'", "utf-8"),
    "nested": (b"x = " + b"(" * 2000, "parentheses"),
    "second answer": (
        f"asked = []\n{HOOK}def swarm_permissions():\n    asked.append(1)\n    return [] if asked == [1] else 1 / 0".encode(),
        "swarm_permissions fails: ZeroDivisionError",
    ),
    "second answer is an exit": (
        f"import sys\nasked = []\n{HOOK}def swarm_routes():\n    asked.append(1)\n    return [] if asked == [1] else sys.exit()".encode(),
        "swarm_routes fails: PluginError",
    ),
}


@pytest.fixture(name="odd")
def _odd(swarm_dists, swarm_boot):
    """Boot with a plugin of this source alone, and return the kernel and the plugin."""

    def boot(source):
        swarm_dists.add("odd", "", requires=["swarmkernel", "attrs"])
        (swarm_dists.folder / "odd.py").write_bytes(source)
        kernel = swarm_boot(enabled=["odd"])
        return kernel, *kernel.plugins

    return boot


@pytest.mark.parametrize(("source", "said"), ODD.values(), ids=ODD)
def test_odd_sources(odd, source, said):
    """What is wrong with a source or a hook is a finding, and no command fails over it."""
    kernel, plugin = odd(source)

    found = "\n".join(wrong for finding in findings(kernel, plugin) for wrong in finding.wrong)
    assert "" == found if said is None else said in found
    assert ["odd"] == [row.name for row in facts(kernel)]
    assert "odd" == details(kernel, "odd").name


def test_a_compiled_module(swarm_dists, swarm_boot):
    """What a module without a source imports is unknown, and not held against its plugin."""
    swarm_dists.add("odd", "")
    (swarm_dists.folder / "odd.py").unlink()
    (swarm_dists.folder / "odd.abi3.so").write_bytes(b"\x7fELF")
    kernel = swarm_boot(enabled=["odd"])

    [plugin] = kernel.plugins.failed()

    assert "ImportError" in repr(plugin.error)
    wrong = [finding.rule for finding in findings(kernel, plugin) if finding.wrong]
    assert ["it loads, and its settings have defaults"] == wrong


def test_a_rule_that_cannot_be_checked(odd, monkeypatch):
    """A rule that cannot be checked is not kept."""
    kernel, plugin = odd(b"")
    monkeypatch.delattr(plugin.module, "__spec__")

    assert ["cannot be checked: ValueError('odd.__spec__ is not set')"] in [
        f.wrong for f in findings(kernel, plugin)
    ]


def test_what_brings_a_package(odd, swarm_dists):
    """What is left of a distribution that brought a package does not hide who brings it now."""
    rest = swarm_dists.folder / "rest-1.0.dist-info"
    rest.mkdir()
    (rest / "top_level.txt").write_text("attrs\n")

    kernel, plugin = odd(f"import attrs\n{HOOK}def swarm_routes(): return ()".encode())

    assert [] == [finding for finding in findings(kernel, plugin) if finding.wrong]


@pytest.mark.parametrize("target", ["file", "file/folder"])
def test_a_package_that_cannot_be_written(tmp_path, target):
    """A template is not written where there is a file, and that is told in a line."""
    (tmp_path / "file").write_text("mine")

    with pytest.raises(StartupError, match="cannot be written: "):
        TEMPLATES[0].write("thing", tmp_path / target)
    assert "mine" == (tmp_path / "file").read_text()
