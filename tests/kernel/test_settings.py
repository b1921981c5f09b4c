"""Settings come from a file, the environment and the command line, and errors name the culprit."""

import tomllib
from pathlib import Path

import attrs
import pytest

from swarmkernel import StartupError
from swarmkernel.settings import FILE_NAME, ServerSettings, SettingsSource


@attrs.frozen
class Some:
    name: str = "x"
    size: int = 3
    ratio: float = 0.5
    on: bool = False
    many: list[str] = attrs.field(factory=list)
    folder: Path = Path()


def _file(tmp_path, text):
    path = tmp_path / "swarmkernel.toml"
    path.write_text(text)
    return path


def test_defaults(tmp_path):
    """Without a file everything has its default."""
    assert Some() == SettingsSource(tmp_path / "none.toml", {}).load("some", Some)


def test_precedence(tmp_path):
    """The command line wins over the environment, that over the file."""
    path = _file(tmp_path, "[some]\nname = 'file'\nsize = 1\nratio = 2\n")
    environ = {
        "SWARMKERNEL_SOME__SIZE": "2",
        "SWARMKERNEL_SOME__MANY": '["a"]',
        "SWARMKERNEL_SOME__ON": "true",
    }

    found = SettingsSource(path, environ, {"some": {"ratio": 4.0}}).load("some", Some)

    assert Some("file", 2, 4.0, True, ["a"]) == found


def test_text_from_the_environment():
    """A variable for a text setting is taken as it stands."""
    environ = {"SWARMKERNEL_SOME__NAME": "true", "SWARMKERNEL_SOME__FOLDER": "/a/b"}

    assert Some(name="true", folder=Path("/a/b")) == SettingsSource(None, environ).load("some", Some)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[some]\nsize = 'x'\n", r"swarmkernel.toml: \[some\] size: expected int"),
        ("[some]\non = 1\n", r"\[some\] on: expected bool"),
        ("[some]\nmany = 'a'\n", r"\[some\] many"),
        ("[some]\nsise = 1\n", r"\[some\] sise: unknown setting; did you mean size"),
        ("some = 1\n", r"some must be a table"),
        ("[some\n", r"swarmkernel.toml: not valid TOML"),
    ],
)
def test_errors(tmp_path, text, named):
    """An error names the file, the table and the key."""
    with pytest.raises(StartupError, match=named):
        SettingsSource(_file(tmp_path, text), {}).load("some", Some)


def test_error_in_the_environment():
    """An error in a variable names the variable."""
    with pytest.raises(StartupError, match="SWARMKERNEL_SERVER__PORT: expected int"):
        SettingsSource(None, {"SWARMKERNEL_SERVER__PORT": "many"}).load("server", ServerSettings)


def test_the_command_says_it_in_one_line(tmp_path):
    """`swarmkernel check` prints what is wrong, without a traceback, and exits with 1."""
    import subprocess
    import sys

    _file(tmp_path, "[server]\nport = 'x'\n")
    found = subprocess.run(
        [sys.executable, "-m", "swarmkernel", "check", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 1 == found.returncode
    assert "[server] port: expected int" in found.stderr
    assert "Traceback" not in found.stderr


def test_save(tmp_path):
    """Saved keys are read by the next start; comments and other keys stay; a dotted table is nested."""
    file = tmp_path / "conf" / FILE_NAME
    file.parent.mkdir()
    file.write_text("# mine\n[server]\nport = 7 # seven\n")

    SettingsSource(file, {}).save({"server": {"host": "0.0.0.0"}, "a.b": {"c.d": "x"}})

    text = file.read_text()
    assert "# mine" in text
    assert "port = 7 # seven" in text
    assert {"server": {"port": 7, "host": "0.0.0.0"}, "a": {"b": {"c.d": "x"}}} == tomllib.loads(text)
    assert [FILE_NAME] == [path.name for path in file.parent.iterdir()]
