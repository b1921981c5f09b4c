"""The service that other plugins read a user's choices from."""

import asyncio
import os

import pytest

from swarmkernel import (
    MemoryStore,
    Plugins,
    RouteError,
    Services,
    SettingsSource,
    Store,
    UserAdmin,
    UserData,
    Vault,
)
from swarmkernel_basic_api import BasicSettings
from swarmkernel_basic_api.install import Choices, Installer
from swarmkernel_basic_api.presets import Draft
from swarmkernel_basic_api.users import Users


@pytest.fixture(name="users")
def _users(tmp_path):
    settings = BasicSettings(default_user={"fileformat.dpi": 72, "theme": "solarized"})
    return Users.of(MemoryStore(), Vault("secret", tmp_path / "key"), tmp_path, settings)


async def test_user_data(users):
    """Settings are the user's over the operator's over ours; presets are found in any letter case."""
    service: UserData = users
    await users.change_settings("local", {"fileformat.dpi": "300", "roles": ["admin"]})
    await users.presets.add("local", Draft("A/B", "", {"steps": "5"}))
    await users.values.put("local", "param_edits", {"groups": {}})

    mine, other = await service.settings("local"), await service.settings("other")
    assert (300, 72) == (mine["fileformat.dpi"], other["fileformat.dpi"])
    assert ("solarized", "PNG") == (mine["theme"], mine["fileformat.imageformat"])
    assert ["owner"] == mine["roles"]
    assert {"steps": "5"} == await service.preset("local", "a/b")
    assert await service.preset("other", "A/B") is None
    assert {"groups": {}} == await service.param_edits("local")
    assert await service.param_edits("other") is None


async def test_separator_in_a_user_id(users):
    """A user id that could reach into another's keys is refused outright."""
    with pytest.raises(ValueError, match="not a user id"):
        await users.presets.find("alice/x", "y")


async def test_settings_for_who_manages_users(users):
    """Restricted settings are described with the values given, and left out otherwise."""
    service: UserAdmin = users
    shown = await service.describe_settings("bob", {"roles": ("user", "editor")})

    assert "user || editor" == shown["roles"]["value"]
    assert "roles" not in await service.describe_settings("bob", {})


async def test_changes_for_who_manages_users(users):
    """A change names what it left out; one bad value changes nothing, and the error names its key."""
    service: UserAdmin = users
    assert ["Roles", "x"] == await service.change_settings("bob", {"Roles": ["a"], "x": 1, "language": "de"})
    with pytest.raises(ValueError, match=r"FileFormat\.DPI"):
        await service.change_settings("bob", {"language": "fr", "FileFormat.DPI": "many"})

    assert "de" == (await users.settings("bob"))["language"]


async def rows(store: Store):
    """Every row of the store, as (collection, key)."""
    names = ("user_values", "presets", "preset_pictures", "api_keys")
    return {(name, key) for name in names for key, _ in await store.scan_rows(name, "")}


async def test_forget(users):
    """Nothing of a user is left in the store, and everything of others whose names begin alike."""
    kept = None
    for user_id in ("bobby", "bob"):
        await users.change_settings(user_id, {"language": "de"})
        for name in ("param_edits", "starred_models", "preset_links"):
            await users.values.put(user_id, name, {"a": ["b"]})
        await users.presets.add(user_id, Draft("One", "", {}, picture=b"jpeg"))
        await users.keys.set(user_id, "civitai_api", "k")
        kept = kept or await rows(users.store)
    service: UserAdmin = users
    assert 14 == len(await rows(users.store))
    await service.forget("bob")

    assert 7 == len(kept)
    assert kept == await rows(users.store)
    assert "solarized" == (await users.settings("bob"))["theme"]


async def test_api_keys_at_rest(users):
    """The store holds a key sealed; one that an earlier version stored in clear still counts."""
    await users.keys.set("bob", "huggingface_api", "hf_canary")
    stored = await users.store.read_row("api_keys", "bob/huggingface_api")
    assert "canary" not in stored.text
    await users.store.write_row(
        "api_keys", "bob/civitai_api", '{"secret":"plain","updated":"2026-01-02 03:04"}', None
    )

    assert "last updated 2026-01-02 03:04" == await users.keys.status("bob", "civitai_api")
    assert (await users.keys.status("bob", "huggingface_api")).startswith("last updated 20")


async def test_an_installation_that_is_cut_while_it_saves(users, tmp_path):
    """Once the settings are being saved, that they are and that the server is installed is kept as well."""
    services = Services()
    file = tmp_path / "swarmkernel.toml"
    services.add(Plugins, Plugins())
    services.add(Store, users.store)
    services.add(SettingsSource, SettingsSource(file, {}))
    installer = Installer.of(services, users)
    os.mkfifo(file)  # saving waits here
    choices = await Choices.read(users, "beweish", "ja", "just_self", "none", "none")
    saving = asyncio.create_task(_last(installer.run(choices, "local")))
    opened = await asyncio.to_thread(file.open, "w")
    saving.cancel()
    await asyncio.sleep(0.1)
    assert not saving.done()
    opened.close()
    await asyncio.wait({saving})

    assert saving.cancelled()
    assert 'theme = "beweish"' in file.read_text()
    assert "beweish" == (await users.settings("bob"))["theme"]
    with pytest.raises(RouteError, match="installed already"):
        await _last(installer.run(choices, "local"))


async def _last(frames):
    return [frame async for frame in frames][-1]
