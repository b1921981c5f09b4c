"""Which database the settings name, and what becomes of the password."""

import logging

import pytest

from swarmkernel import ServerSettings, Services, StartupError
from swarmkernel_store_sql import Settings, open_store, plugin

SECRET = "hunter2"


def services(tmp_path, url: str = "") -> Services:
    """What the kernel hands to the hook."""
    found = Services()
    found.add(Settings, Settings(url))
    found.add(ServerSettings, ServerSettings(data_dir=tmp_path / "not" / "there" / "yet"))
    return found


async def test_the_default_is_a_file_in_the_data_directory(tmp_path):
    """Without settings the hook's store is swarmkernel.db in the data directory, which is made."""
    async with plugin.swarm_store(services(tmp_path)) as store:
        await store.collection("numbers", int).put("key", 1)
    assert (tmp_path / "not/there/yet/swarmkernel.db").stat().st_size > 0


@pytest.mark.parametrize("name", ["sqlite:///other.db", "sqlite:///{}/other.db"])
async def test_sqlite_urls_name_files(tmp_path, name):
    """An SQLite URL names a file, relative to the data directory or absolute."""
    async with open_store(Settings(name.format(tmp_path)), tmp_path):
        assert (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///a.db?mode=ro", "no options"),
        (f"mysql://user:{SECRET}@host/db", "'mysql' is not supported"),
        (f"user:{SECRET}@host", "not a URL"),
        (f"postgresql://user:{SECRET}@host:port/db", "not a URL"),
    ],
)
def test_other_urls_stop_the_start(tmp_path, url, text):
    """A URL that names no usable database stops the start with a text that says why, without the password."""
    with pytest.raises(StartupError, match=text) as caught:
        open_store(Settings(url), tmp_path)
    assert SECRET not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_the_password_is_never_shown(tmp_path, caplog):
    """An unreachable server stops the start with its name; no password is in the error, its causes or the log."""
    caplog.set_level(logging.DEBUG)
    settings = Settings(f"postgres://user:{SECRET}@127.0.0.1:1/db?sslmode=disable")
    with pytest.raises(StartupError, match=r"database db on 127\.0\.0\.1 cannot be reached") as caught:
        async with open_store(settings, tmp_path):
            pass
    error, shown = caught.value, [repr(settings), caplog.text]
    while error is not None:
        shown.append(repr(error))
        error = error.__cause__ or error.__context__
    assert SECRET not in "\n".join(shown)
