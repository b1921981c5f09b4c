"""Models that the first-run installation fetches, on real servers."""

import json
import time
from importlib.metadata import entry_points

import pytest

from swarmkernel.testing import LiveServer
from swarmkernel_models_api import ModelsSettings
from swarmkernel_models_api.known import NOT_RUN, OFFICIAL, known_models

from .conftest import SD1, write
from .hosts import page, serving

NEEDED = {"store_sql", "basic_api", "backend_api", "models_api"}
OTHERS = sorted({ep.name for ep in entry_points(group="swarmkernel.v1")} - NEEDED)
GOOD = {
    "theme": "modern_dark",
    "installed_for": "just_self",
    "backend": "none",
    "install_amd": False,
    "language": "en",
}


@pytest.fixture(name="host", scope="module")
def _host(tmp_path_factory):
    """Where the models of these tests come from."""
    made = tmp_path_factory.mktemp("made")
    small = write(made / "small.safetensors", SD1).read_bytes()
    large = write(made / "large.safetensors", {"weight": (2500, 1000)}).read_bytes()
    with serving() as host:
        host.add("/tiny.safetensors", page(small))
        host.add("/other.safetensors", page(small))
        host.add("/broken.safetensors", page(small[:-1]))

        def slow(request):
            request.send_response(200)
            request.send_header("Content-Length", str(len(large)))
            request.end_headers()
            request.wfile.write(large[:2_500_000])
            time.sleep(0.7)
            request.wfile.write(large[2_500_000:3_500_000])
            request.connection.settimeout(20)
            if request.connection.recv(1) == b"":
                host.gone.set()

        host.add("/slow.safetensors", slow)
        yield host


def start(host, data_dir, *more):
    """A server whose operator has named sources; *more* are plugins beside those needed."""
    named = {name: host.url(f"/{name}.safetensors") for name in ("tiny", "broken", "slow", "absent")}
    named["sd15"] = host.url("/other.safetensors")
    sources = ", ".join(f"{name} = {json.dumps(url)}" for name, url in named.items())
    env = {
        "SWARMKERNEL_MODELS_API__SOURCES": f"{{{sources}}}",
        "SWARMKERNEL_PLUGINS__DISABLED": json.dumps([name for name in OTHERS if name not in more]),
    }
    return LiveServer(data_dir, env=env)


@pytest.fixture(name="fresh", scope="module")
def _fresh(host, tmp_path_factory):
    """A server that no test installs."""
    with start(host, tmp_path_factory.mktemp("fresh")) as server:
        yield server


@pytest.fixture(name="server")
def _server(host, tmp_path):
    """A server for one test."""
    with start(host, tmp_path) as server:
        yield server


def install(server, models):
    return server.client().stream("InstallConfirmWS", **GOOD, models=models)


def folder(server):
    return server.data_dir / "Models" / "Stable-Diffusion"


def files(server):
    return sorted(p.relative_to(folder(server)).as_posix() for p in folder(server).rglob("*") if p.is_file())


def test_models_are_fetched(server):
    """A fetched model is listed at once; one that cannot be fetched is told, and the installation succeeds."""
    frames = install(server, "tiny, broken, absent, sd15")
    told = [f["info"] for f in frames if "info" in f]

    assert {"success": True} == frames[-1]
    assert "tiny is ready." in told
    failures = [text for text in told if "could not be fetched" in text]
    assert ["broken", "absent", "Stable Diffusion 1.5"] == [text.partition(" could")[0] for text in failures]
    assert "no safetensors file" in failures[0]
    assert "SHA-256" in failures[2]
    size = (folder(server) / "tiny.safetensors").stat().st_size
    progress = next(f for f in frames if f.get("progress"))
    assert (size, size, 3, 8) == tuple(progress[k] for k in ("progress", "total", "steps", "total_steps"))
    assert progress["per_second"] > 0
    assert ["tiny.safetensors"] == files(server)
    listed = server.client().post("ListModels", path="", depth=3)["files"]
    assert [("tiny.safetensors", "stable-diffusion-v1")] == [(m["name"], m["architecture"]) for m in listed]


def test_a_model_that_is_there(server, host):
    """A file of that name is not fetched again, nor touched."""
    (folder(server) / "tiny.safetensors").write_bytes(b"mine")
    asked = len(host.asked)
    frames = install(server, "tiny")

    assert {"info": "tiny is there already."} in frames
    assert b"mine" == (folder(server) / "tiny.safetensors").read_bytes()
    assert asked == len(host.asked)


def test_a_client_that_leaves(server, host):
    """Who leaves while a model arrives ends the fetch; nothing is left of it, and the server is installed."""
    with server.client().socket("InstallConfirmWS", **GOOD, models="slow") as ws:
        while '"progress":' not in (message := ws.recv(20)) or '"progress":0' in message:
            pass
        assert 1 == len(list(folder(server).iterdir()))
    assert host.gone.wait(10)
    deadline = time.monotonic() + 10
    while files(server) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert [] == files(server)
    assert "installed already" in install(server, "none")[-1]["error"]


@pytest.mark.parametrize(
    ("expected", "models"),
    [
        ("No backend of this server runs the model fluxdev; there are sd15, sd21, sdxl1, sdxl1refiner", "fluxdev"),
        ("No plugin of this server fetches the model 'sd3'", "sd3"),
        ("No plugin of this server fetches the model '../tiny'", "../tiny"),
        ("No plugin of this server fetches the model 'TINY'", "tiny,TINY"),
        ("swarmkernel-starter-model", "starter"),
    ],
)  # fmt: skip
def test_models_that_cannot_be(fresh, expected, models):
    """An id that is unknown, or of a model that cannot run here, is refused before anything is done."""
    assert expected in install(fresh, models)[-1]["error"]
    assert not (fresh.data_dir / "swarmkernel.toml").exists()
    assert [] == files(fresh)


def test_the_starter_model(host, tmp_path):
    """The starter model is there, so nothing is fetched."""
    with start(host, tmp_path, "starter_model") as server:
        frames = install(server, "starter")

    assert {"info": "The starter model came with this server."} in frames
    assert {"success": True} == frames[-1]
    assert 5 == frames[-2]["steps"]


@pytest.mark.parametrize("model", OFFICIAL, ids=lambda model: model.id)
def test_official_models(model):
    """Each known model has an https address whose end is its file's name, and a SHA-256."""
    assert model.source.url.startswith("https://huggingface.co/")
    assert model.path == f"OfficialStableDiffusion/{model.source.url.rpartition('/')[2]}"
    assert model.path.endswith(".safetensors")
    assert 64 == len(bytes.fromhex(model.source.sha256).hex())
    assert not model.source.is_own


def test_sources():
    """A source for a known id is another place of the same file; another id adds a model of the file's own name."""
    sources = {"sdxl1": "http://box/xl", "mine": "https://box.example/a/My%2Dmodel_1.0.safetensors?x=1"}
    known = known_models(ModelsSettings(sources=sources).sources)
    (official,) = (model for model in OFFICIAL if model.id == "sdxl1")

    assert ("http://box/xl", True) == (known["sdxl1"].source.url, known["sdxl1"].source.is_own)
    assert (official.path, official.source.sha256) == (known["sdxl1"].path, known["sdxl1"].source.sha256)
    assert ("My-model_1.0.safetensors", None) == (known["mine"].path, known["mine"].source.sha256)
    assert [*(m.id for m in OFFICIAL), "mine"] == list(known)


@pytest.mark.parametrize(
    ("model_id", "url"),
    [
        ("Mine", "https://box/a.safetensors"),
        ("a,b", "https://box/a.safetensors"),
        ("", "https://box/a.safetensors"),
        ("none", "https://box/a.safetensors"),
        ("starter", "https://box/a.safetensors"),
        (min(NOT_RUN), "https://box/a.safetensors"),
        ("mine", "ftp://box/a.safetensors"),
        ("mine", "file:///a.safetensors"),
        ("mine", "https://user:pw@box/a.safetensors"),
        ("mine", "https:///a.safetensors"),
        ("mine", "https://box/a.ckpt"),
        ("mine", "https://box/.safetensors"),
        ("mine", "https://box/..%2Fa.safetensors%00"),
        ("mine", "https://box/.hidden.safetensors"),
        ("mine", "https://box/a%2F..%2F.safetensors"),
        ("sd15", "https://user@box/a.safetensors"),
    ],
)
def test_bad_sources(model_id, url):
    """What is no id, no address or no file name is refused when the server starts, without the address's secrets."""
    with pytest.raises(ValueError, match="source") as caught:
        ModelsSettings(sources={model_id: url})

    assert "pw" not in str(caught.value)
