"""The settings class of a third party's backend as a form, through a real server and its worker."""

import time
from typing import Any

import pytest

from swarmkernel.testing import Client, FakeDistributions, LiveServer

PLUGIN = """
from typing import Literal

import attrs

from swarmkernel_backend_api import BackendType, hookimpl, setting


@attrs.frozen
class Settings:
    address: str = setting("", title="Address", description="Where it is", placeholder="http://...")
    bare: str = "as it is"
    count: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    ratio: float = 0.5
    on: bool = True
    mode: Literal["fast", "good"] = "fast"
    size: str = setting("s", values=["s", "l"], value_names=["Small", "Large"])
    tags: list[str] = setting([])
    limit: int | None = None
    token: str = setting("", title="Token", secret=True)
    keys: list[str] = setting([], secret=True)


@attrs.define
class Backend:
    settings: Settings

    async def start(self): ...
    async def stop(self): ...

    @property
    def features(self):
        return [f"{name}={value!r}" for name, value in attrs.asdict(self.settings).items()]


@hookimpl
def backend_types():
    return [BackendType("stranger", "A stranger's", make=Backend, settings=Settings, description="Has all", is_standard=False)]
"""
PLAIN = {"description": "", "placeholder": "", "is_secret": False, "values": None, "value_names": None}
FORM = [
    PLAIN | {"name": "Address", "type": "text", "description": "Where it is", "placeholder": "http://..."},
    PLAIN | {"name": "bare", "type": "text"},
    PLAIN | {"name": "count", "type": "integer"},
    PLAIN | {"name": "ratio", "type": "decimal"},
    PLAIN | {"name": "on", "type": "boolean"},
    PLAIN | {"name": "mode", "type": "dropdown", "values": ["fast", "good"], "value_names": ["fast", "good"]},
    PLAIN | {"name": "size", "type": "dropdown", "values": ["s", "l"], "value_names": ["Small", "Large"]},
    PLAIN | {"name": "tags", "type": "list"},
    PLAIN | {"name": "limit", "type": "integer"},
    PLAIN | {"name": "Token", "type": "text", "is_secret": True},
    PLAIN | {"name": "keys", "type": "list", "is_secret": True},
]
DEFAULTS = {
    "Address": "",
    "bare": "as it is",
    "count": 2,
    "ratio": 0.5,
    "on": True,
    "mode": "fast",
    "size": "s",
    "tags": [],
    "limit": None,
    "Token": "",
    "keys": [],
}
#: What clients send, what the list then shows, and what the backend in its worker was given.
SENT = {
    "Address": "http://x",
    "bare": 5,
    "count": "7",
    "ratio": "0.25",
    "on": "false",
    "mode": "good",
    "size": "l",
    "tags": ["a", "b"],
    "limit": 9,
    "Token": "open sesame",
    "keys": ["k1", "k2"],
}
SHOWN = SENT | {
    "bare": "5",
    "count": 7,
    "ratio": 0.25,
    "on": False,
    "Token": "\t<secret>",
    "keys": "\t<secret>",
}
GIVEN = {
    "address='http://x'",
    "bare='5'",
    "count=7",
    "ratio=0.25",
    "on=False",
    "mode='good'",
    "size='l'",
    "tags=['a', 'b']",
    "limit=9",
    "token='open sesame'",
    "keys=['k1', 'k2']",
}


@pytest.fixture(name="server")
def _server(swarm_dists: FakeDistributions, swarm_serve: Any) -> LiveServer:
    swarm_dists.add("stranger", PLUGIN, requires=["swarmkernel-backend-api", "attrs"])
    names = ("basic_api", "store_sql", "backend_api", "stranger")
    return swarm_serve(*(option for name in names for option in ("--only", name)))


def test_the_form_of_a_stranger(server: LiveServer) -> None:
    """Every kind of field is shown, read leniently, refused by name, given to the worker, kept, and secret if it says so."""
    client = server.client()
    (kind,) = client.post("ListBackendTypes")["list"]
    new = client.post("AddNewBackend", type_id="stranger")
    edited = edit(client, SENT)

    assert ("stranger", "A stranger's", "Has all", False) == tuple(
        kind[key] for key in ("id", "name", "description", "is_standard")
    )
    assert FORM == kind["settings"]
    assert DEFAULTS == new["settings"]
    assert SHOWN == edited["settings"]
    assert set(given(client)) == GIVEN
    for name, value in {
        "count": 0,
        "ratio": "much",
        "on": 2,
        "mode": "Good",
        "size": "Large",
        "tags": "a",
    }.items():
        assert name in edit(client, {name: value})["error"]
    assert SHOWN == edit(client, SHOWN)["settings"]
    server.stop()
    client = server.start().client()
    assert set(given(client)) == GIVEN
    assert SHOWN == client.post("ListBackends")["0"]["settings"]


def edit(client: Client, settings: dict[str, Any]) -> Any:
    """What the server answers to an edit."""
    return client.post("EditBackend", backend_id=0, title="", settings=settings)


def given(client: Client) -> list[str]:
    """What the running backend says of its settings."""
    until = time.monotonic() + 30
    while (found := client.post("ListBackends")["0"])["status"] != "running":
        assert time.monotonic() < until, found
        time.sleep(0.05)
    features: list[str] = found["features"]
    return features
