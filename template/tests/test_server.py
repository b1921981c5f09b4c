"""The plugin in a real server; the fixtures come with ``swarmkernel[testing]``."""

import io
import time

import pytest
from PIL import Image

BACKEND = {"type_id": "example"}
PICTURE = {"images": 1, "prompt": "anything", "width": 256, "height": 128, "internalbackendtype": "example"}


@pytest.fixture(name="client")
def _client(swarm_serve):
    return swarm_serve("--require", "example").client()


def test_form(client):
    """Clients see the settings as a form, and never the secret."""
    backend = client.post("AddNewBackend", **BACKEND)
    change = {"backend_id": backend["id"], "title": "Squares"}
    client.post("EditBackend", **change, settings={"pattern": "squares", "ApiKey": "open sesame"})
    form = next(t for t in client.post("ListBackendTypes")["list"] if t["id"] == "example")["settings"]

    assert [("pattern", "dropdown"), ("width", "integer"), ("ApiKey", "text")] == [
        (field["name"], field["type"]) for field in form
    ]
    assert "squares" in str(client.post("ListBackends"))
    assert "sesame" not in str(client.post("ListBackends"))


def test_routes(client):
    """The route lists the patterns."""
    assert {"patterns": ["stripes", "squares"]} == client.post("ExampleListPatterns")


def test_generate(client):
    """A backend of the type makes a picture of the size that was asked for."""
    backend = client.post("AddNewBackend", **BACKEND)
    until = time.monotonic() + 60
    while client.post("ListBackends")[str(backend["id"])]["status"] != "running":
        assert time.monotonic() < until
        time.sleep(0.1)
    address = client.post("GenerateText2Image", **PICTURE)["images"][0]

    assert (256, 128) == Image.open(io.BytesIO(client.http.get(f"/{address}").content)).size
