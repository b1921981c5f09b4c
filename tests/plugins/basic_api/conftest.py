"""Servers with basic_api, and with nothing else unless a test adds it."""

import base64
import json
import os
from importlib.metadata import entry_points
from io import BytesIO

import pytest
from PIL import Image

from swarmkernel.testing import Client, LiveServer

#: Read once, before a test adds plugins of its own.
OTHERS = sorted({ep.name for ep in entry_points(group="swarmkernel.v1")} - {"basic_api", "store_sql"})


def alone(**env):
    """Return the environment of a server without the other installed plugins."""
    return {"SWARMKERNEL_PLUGINS__DISABLED": json.dumps(OTHERS), **env}


def on_path(folder):
    """The variable that has servers see the distributions in *folder*, beside what they see already."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def enabled(*names):
    """The variable that leaves those plugins on beside basic_api."""
    return {"SWARMKERNEL_PLUGINS__DISABLED": json.dumps([name for name in OTHERS if name not in names])}


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory):
    """One server for the tests of a module; the header X-SWARM-USER_ID chooses the user."""
    env = alone(SWARMKERNEL_SERVER__TRUST_USER_HEADER="true", SWARMKERNEL_BASIC_API__MAX_PRESETS="30")
    with LiveServer(tmp_path_factory.mktemp("data"), env=env) as server:
        yield server


@pytest.fixture(name="connect")
def _connect():
    """Make clients that are closed when the test ends: of a server, for the user in a header, or without session."""
    clients = []

    def connect(server, *, session=True, **headers):
        client = Client(server.url)
        clients.append(client)
        if session:
            client.session_id = client.raw("GetNewSession", headers=headers).json()["session_id"]
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture(name="as_user")
def _as_user(server, connect):
    """Open a session for a user of one's own."""
    return lambda name: connect(server, **{"X-SWARM-USER_ID": name})


@pytest.fixture(name="client")
def _client(as_user, request):
    """A client of a user that no other test has."""
    return as_user(request.node.name)


@pytest.fixture(name="jpeg")
def _jpeg():
    """Return a JPEG data URI of a plain picture."""

    def jpeg(colour="red", width=300, height=600):
        out = BytesIO()
        Image.new("RGB", (width, height), colour).save(out, "JPEG")
        return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()

    return jpeg


@pytest.fixture(name="alone")
def _alone():
    """The environment of a server without the other installed plugins; keywords are added."""
    return alone
