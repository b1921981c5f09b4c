"""What the command line says."""

import json
import re
import subprocess
import sys

import pytest

BROKEN = "import no_such_module"


@pytest.fixture(name="command")
def _command(tmp_path):
    """Run `swarmkernel` with a data folder of its own; returns exit code, output and errors."""

    def run(*args):
        done = subprocess.run(
            [sys.executable, "-m", "swarmkernel", *args, "--data-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_plugins(command, swarm_dists):
    """`plugins` lists every installed plugin with its distribution, and why a failed one did."""
    swarm_dists.add("abroken", BROKEN)

    code, out, _ = command("plugins", "--json")

    found = {row["name"]: row for row in json.loads(out)}
    assert 0 == code
    assert "swarmkernel-basic-api" in found["basic_api"]["origin"]
    assert found["basic_api"]["error"] is None
    assert "no_such_module" in found["abroken"]["error"]
    assert "abroken\tabroken 1.0\tModuleNotFoundError" in command("plugins")[1]


def test_disabled_plugins_are_not_listed(command):
    """`--disable` keeps a plugin out."""
    assert "basic_api" not in command("plugins", "--disable", "basic_api")[1]


def test_routes(command):
    """`routes` lists the table, and gives it as JSON, Markdown and OpenAPI."""
    table = {line.split("\t")[0]: line.split("\t") for line in command("routes")[1].splitlines()}
    assert ["http", "add_remove_backends", "backend_api", "backend_id: integer"] == table["DeleteBackend"][1:]
    rows = json.loads(command("routes", "--format", "json")[1])
    assert table.keys() == {row["name"] for row in rows}
    assert "## DeleteBackend" in command("routes", "--format", "markdown")[1]
    assert "/API/DeleteBackend" in json.loads(command("routes", "--format", "openapi")[1])["paths"]


def test_check(command, swarm_dists, tmp_path):
    """`check` is content with a sound installation, and names what is wrong with another."""
    code, out, _ = command("check")
    assert (0, True) == (code, "are fine" in out)
    swarm_dists.add("abroken", BROKEN)
    (tmp_path / "swarmkernel.toml").write_text("[no_such_plugin]\nx = 1\n")

    code, _, err = command("check")

    assert 1 == code
    assert "abroken 1.0" in err
    assert "[no_such_plugin]" in err
    (tmp_path / "swarmkernel.toml").write_text("[basic_api]\nmax_presets = 7\n")
    assert 0 == command("check", "--only", "store_sql")[0]
    assert "enabled: ghost: no installed plugin" in command("check", "--only", "ghost")[2]
    code, _, err = command("check", "--disable", "ghost", "--disable", "swarmkernel-admin-api")
    assert (1, True) == (code, "disabled: ghost: no installed plugin" in err)
    assert "admin" not in err


def test_missing_settings_file(command, tmp_path):
    """A settings file that was named but is not there is an error."""
    code, _, err = command("check", "--config", str(tmp_path / "none.toml"))

    assert (1, True) == (code, "no such settings file" in err)


def test_commands_of_plugins(command, swarm_dists):
    """A plugin's command is there beside the kernel's, and in the help."""
    swarm_dists.add(
        "extra",
        """
import click
from swarmkernel import hookimpl
@click.command("greet")
@click.option("--data-dir")
def greet(data_dir): click.echo("hello")
@hookimpl
def swarm_commands(): return [greet]
""",
    )

    assert (0, "hello\n") == command("greet")[:2]
    help_ = subprocess.run(
        [sys.executable, "-m", "swarmkernel", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "greet" in help_
    assert "serve" in help_


@pytest.mark.parametrize(
    ("command", "required", "said"),
    [
        ("return []", '["ghost"]', "swarmkernel: required plugins missing: ghost"),
        ("return [print]", "[]", "set aside: TypeError"),
        ("yield exit(0)", "[]", "set aside: PluginError"),
    ],
    ids=["settings", "no command", "exit"],
)
def test_help_whatever_is_wrong(swarm_dists, monkeypatch, command, required, said):
    """The help is there although the settings or a plugin are wrong, and says so once."""
    swarm_dists.add(
        "abroken", f"from swarmkernel import hookimpl\n@hookimpl\ndef swarm_commands(): {command}"
    )
    monkeypatch.setenv("SWARMKERNEL_PLUGINS__REQUIRED", required)

    done = subprocess.run(
        [sys.executable, "-m", "swarmkernel", "--help"], capture_output=True, text=True, check=True
    )

    assert "serve" in done.stdout
    assert 1 == done.stderr.count(said)


@pytest.mark.parametrize(
    "options", [["--disable", "bomb"], ["--only=accounts", "--only", "store_sql"], ["--config", "with.toml"]]
)
def test_plugins_kept_out_of_commands(command, swarm_dists, tmp_path, monkeypatch, options):
    """A plugin that the options of a plugin's command keep out is not imported to look for that command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "with.toml").write_text('[plugins]\ndisabled = ["bomb"]\n')
    swarm_dists.add("bomb", "open('trace', 'w').close()")

    assert 0 == command("users", "list", *options)[0]
    assert not (tmp_path / "trace").exists()
    assert 0 == command("users", "list")[0]
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("users", r"accounts .* and dwarf \(dwarf 1.0\) both.*'users'"),
        ("serve", r"\(dwarf 1.0\): ValueError.*'serve'"),
    ],
)
def test_commands_of_one_name(command, swarm_dists, name, said):
    """`check` names who declares a command that another plugin or the kernel has."""
    swarm_dists.add(
        "dwarf",
        f"""
import click
from swarmkernel import hookimpl
@click.command({name!r})
def mine(): pass
@hookimpl
def swarm_commands(): return [mine]
""",
    )

    code, _, err = command("check")

    assert 1 == code
    assert re.search(said, err.splitlines()[-1])
