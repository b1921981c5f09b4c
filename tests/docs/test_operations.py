"""What docs/operations.md says about settings, commands and files is so."""

import re
import signal
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest

from swarmkernel import ServerSettings
from swarmkernel.kernel import Kernel
from swarmkernel.settings import PluginSettings, SettingsSource

BIN = Path(sys.executable).parent


@pytest.fixture(name="operations", scope="module")
def _operations(page):
    return page("operations.md")


def declared():
    """The settings class of every table."""
    plugins = Kernel.boot(SettingsSource(None, {}, {"plugins": {"strict": True}})).plugins
    kinds = {p.name: kind for p in plugins for kind in plugins.call(p, "swarm_settings")}
    return {"server": ServerSettings, "plugins": PluginSettings, **kinds}


def test_settings(operations):
    """Every table and key is there once, with its default, in the order of the settings class."""
    shown = {}
    for section in re.split("^### ", operations.text, flags=re.MULTILINE)[1:]:
        table = re.match(r"`\[(\w+)\]`", section)[1]
        rows = attrs.evolve(operations, text=section.partition("\n## ")[0]).table("key", "default", "meaning")
        shown[table] = {key: tomllib.loads(f"v = {default}")["v"] for key, default, _ in rows}
        assert all(meaning for _, _, meaning in rows)

    assert {table: defaults(kind) for table, kind in declared().items()} == shown


def defaults(kind):
    """Key -> default of a settings class, as TOML would have it."""
    return {
        key: str(value) if isinstance(value, Path) else value for key, value in attrs.asdict(kind()).items()
    }


def test_settings_file(operations, tmp_path):
    """Every shown settings file is accepted, and the values of the first are taken."""
    first, *others = [b.text for b in operations.blocks() if b.kind == "toml"]
    file = tmp_path / "swarmkernel.toml"

    for text in (*others, first):
        file.write_text(text)
        assert "routes are fine" in _shell("swarmkernel check --config swarmkernel.toml", tmp_path)
    assert 7802 == SettingsSource(file, {}).load("server", ServerSettings).port


def test_accounts(operations, tmp_path):
    """The shown commands make users and a token."""
    (script,) = [b.text for b in operations.blocks() if "users add" in b.text]
    shown = _shell(script, tmp_path)

    assert "ann" in shown
    assert "bob" in shown
    assert re.fullmatch(r"[0-9a-f]+\.[0-9a-f]{32}\.[0-9a-f]{32}", shown.split()[-1])


def test_environment(operations, matches, tmp_path):
    """The shown variables are accepted."""
    blocks = list(operations.blocks())
    (at,) = [n for n, b in enumerate(blocks) if "export" in b.text]

    assert matches(blocks[at + 1].text, _shell(blocks[at].text, tmp_path))


def test_commands(operations, tmp_path):
    """The commands and options are those that there are, and all are named."""
    rows = operations.table("command", "does")
    help_text = _shell("swarmkernel --help", tmp_path)
    options = set(re.findall(r"--[\w-]+", _shell("swarmkernel serve --help", tmp_path))) - {"--help"}
    named = operations.text.partition("## Settings")[0]

    assert {c.split()[1] for c, _ in rows} == set(
        re.findall(r"^  ([\w-]+)  ", help_text.split("Commands:")[1], re.MULTILINE)
    )
    assert [] == [option for option in options if option not in named]


def test_life(operations, swarm_serve, tmp_path):
    """The data directory has the files that the page lists; the backup is whole; a stop ends with 0."""
    server = swarm_serve("--disable", "backends_torch")
    server.client()
    (backup,) = [b.text for b in operations.blocks() if "VACUUM" in b.text]
    _shell(backup, tmp_path)
    shown = {name for cell, _ in operations.table("path", "what") for name in re.findall(r"[\w.-]+", cell)}

    assert {path.name for path in server.data_dir.iterdir()} - {
        "swarmkernel.db-wal",
        "swarmkernel.db-shm",
    } <= shown
    with sqlite3.connect(tmp_path / "backup.db") as db:
        assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
    db.close()
    assert 0 == server.stop()


def test_exit_codes(swarm_serve, tmp_path):
    """A port in use ends a second server with 98, a wrong setting with 1 and one line."""
    server = swarm_serve("--disable", "backends_torch")
    port = server.url.rpartition(":")[2]
    command = [BIN / "swarmkernel", "serve", "--data-dir", tmp_path / "other", "--disable", "backends_torch"]
    second = subprocess.run([*command, "--port", port], capture_output=True, text=True, check=False)
    wrong = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"SWARMKERNEL_SERVER__PORT": "x"}
    )

    assert (98, True) == (second.returncode, port in second.stderr)
    assert (1, 1) == (wrong.returncode, len(wrong.stderr.splitlines()))
    assert 0 == server._end(signal.SIGINT, 60)


def _shell(script, folder):
    """What a script of the page prints in *folder*."""
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=folder,
        env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout
