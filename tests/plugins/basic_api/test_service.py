"""The service that other plugins read a user's choices from."""

import pytest

from swarmkernel import MemoryStore, UserData
from swarmkernel_basic_api import BasicSettings
from swarmkernel_basic_api.presets import Draft
from swarmkernel_basic_api.users import Users


@pytest.fixture(name="users")
def _users(tmp_path):
    return Users.of(
        MemoryStore(), tmp_path, BasicSettings(default_user={"fileformat.dpi": 72, "theme": "solarized"})
    )


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
