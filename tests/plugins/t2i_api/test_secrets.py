"""A secret in every field that takes one, and nowhere else: not in answers, logs, pictures, files or workers."""

import os
from pathlib import Path

import orjson
import psutil
import pytest

from .test_generate import decode, of

CANARY = "canary-7f83b1657ff1fc53"
KEY_TYPES = ("stability_api", "civitai_api", "huggingface_api")


@pytest.fixture(name="planted")
def _planted(open_studio, monkeypatch):
    """A server whose environment, backend and API keys hold the canary."""
    monkeypatch.setenv("SOME_ACCESS_TOKEN", CANARY)
    studio = open_studio(SWARMKERNEL_SERVER__SECRET_KEY=CANARY)
    client = studio.client()
    for wrong in ({"ApiKey": [CANARY]}, {"ApiKey": CANARY, "slots": "many"}):
        assert "error" in client.post("EditBackend", backend_id=0, title="", settings=wrong)
    answer = client.post("EditBackend", backend_id=0, title="", settings={"ApiKey": CANARY})
    assert "\t<secret>" == answer["settings"]["ApiKey"]
    for kind in KEY_TYPES:
        assert {"success": True} == client.post("SetAPIKey", keyType=kind, key=CANARY)
    studio.wait_for("start", 2)
    return studio


def answers(client) -> list[bytes]:
    """The bodies of every plain route, called with next to nothing, and of what else can be fetched."""
    described = client.http.get("/openapi.json")
    routes = [path.removeprefix("/API/") for path in described.json()["paths"]]
    assert "ListBackends" in routes
    called = [client.raw(route, {"session_id": client.session_id}).content for route in sorted(routes)]
    more = [
        client.raw(route, {"session_id": client.session_id, **body}).content
        for route, body in (
            ("ListBackends", {"nonreal": True, "full_data": True}),
            *(("GetAPIKeyStatus", {"keyType": kind}) for kind in KEY_TYPES),
            ("EditBackend", {"backend_id": 0, "title": "", "settings": {"ApiKey": {"x": CANARY[:9]}}}),
            ("RestartBackends", {"backend": "all"}),
        )
    ]
    pages = [
        client.http.get(path).content for path in ("/", "/Error/Internal", "/View/local/x", "/ViewSpecial/x")
    ]
    return [described.content, *called, *more, *pages]


def processes(studio) -> list[psutil.Process]:
    """The workers, and what they started."""
    return psutil.Process(studio.server.process.pid).children(recursive=True)


def test_no_answer_tells_a_secret(planted):
    """No route, frame, error or picture has the canary."""
    client = planted.client()
    found = answers(client)
    for prompt in ("x", "refuse", "die-once"):
        frames = client.stream(
            "GenerateText2ImageWS", images=1, prompt=prompt, steps=4, donotsave=prompt == "x"
        )
        found += [orjson.dumps(frame) for frame in frames]
        found += [decode(url) for url in of(frames, "image") if url.startswith("data:")]
    url = client.post("GenerateText2Image", images=1, prompt="saved", steps=2)["images"][0]
    found.append(client.http.get(f"/{url}").content)
    assert len(found) > 50
    assert [] == [body for body in found if CANARY.encode() in body]


def test_no_process_or_file_has_a_secret(planted):
    """No worker's arguments or environment, no log line and no file of the data folder has the canary."""
    client = planted.client()
    client.post("GenerateText2Image", images=1, prompt="die-once", steps=4)
    workers = processes(planted)
    assert workers
    for worker in workers:
        place = Path(f"/proc/{worker.pid}")
        assert CANARY.encode() not in (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
    assert CANARY == os.environ["SOME_ACCESS_TOKEN"]
    files = [path for path in planted.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".png" for path in files)
    assert [] == [path for path in files if CANARY.encode() in path.read_bytes()]
    planted.server.stop()
    files = [path for path in planted.folder.rglob("*") if path.is_file()]
    assert [] == [path for path in files if CANARY.encode() in path.read_bytes()]
    assert [] == [line for line in planted.server.log if CANARY in line]
