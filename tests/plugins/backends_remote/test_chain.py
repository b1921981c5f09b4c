"""Generation on a server through another one."""

import base64
import hashlib
import io
import json
import threading
import time

from PIL import Image
from two_servers import metadata, wait_for, write_model

ONE = {"images": 1, "prompt": "a cat", "width": 64, "height": 64, "steps": 4, "seed": 5}


def test_a_picture_comes_through(chain):
    """The worker's picture arrives with previews, and is saved in the front with the front's own metadata."""
    chain.connect()
    client = chain.ready()
    frames = client.stream("GenerateText2ImageWS", **ONE, model="alpha", personalnote="mine")
    images = [frame for frame in frames if "image" in frame]
    progress = [frame["gen_progress"] for frame in frames if "gen_progress" in frame]
    assert 1 == len(images), frames
    picture = Image.open(io.BytesIO(client.http.get("/" + images[0]["image"]).content))
    assert ((64, 64), (5, 0, 77)) == (picture.size, picture.convert("RGB").getpixel((0, 0)))
    assert metadata(images[0]) == json.loads(picture.info["parameters"])["sui_image_params"]
    assert ("alpha", "mine", 5) == tuple(
        metadata(images[0])[key] for key in ("model", "personalnote", "seed")
    )
    assert any("preview" in each for each in progress)
    assert 1.0 == progress[-1]["overall_percent"]
    assert ["begin a cat seed=5 model=alpha.safetensors"] == [
        line.partition(" extra")[0] for line in chain.worker.lines("begin")
    ]


def test_without_websockets(chain):
    """With AllowWebsocket off pictures come all the same, without previews."""
    chain.connect(AllowWebsocket=False)
    frames = chain.ready().stream("GenerateText2ImageWS", **ONE)
    assert 1 == len([frame for frame in frames if "image" in frame]), frames
    assert not [frame for frame in frames if "preview" in frame.get("gen_progress", {})]


def test_models_of_the_worker(chain):
    """The worker's models are listed beside the front's, a name that both have once, and are generated with there."""
    chain.connect()
    client = chain.ready()
    listed = {
        remote: {
            entry["name"]: entry["local"]
            for entry in client.post("ListModels", path="", depth=5, allowRemote=remote)["files"]
        }
        for remote in (True, False)
    }
    assert {"alpha.safetensors": True, "beta.safetensors": False} == listed[True]
    assert {"alpha.safetensors": True} == listed[False]
    assert {"success": True} == client.post("SelectModel", model="beta")
    assert ["load beta.safetensors"] == chain.worker.lines("load")
    assert ["beta.safetensors"] == [entry["current_model"] for entry in chain.mirrors()]
    answer = client.post("GenerateText2Image", **ONE, model="beta")
    assert 1 == len(answer["images"]), answer
    assert 1 == len(chain.worker.lines("load"))
    assert "model=beta.safetensors" in chain.worker.lines("begin")[0]


def test_how_it_shows(chain):
    """The connection makes nothing itself; its child has the features, slots and abilities of the backend there."""
    number = chain.connect()
    chain.ready()
    (control,) = chain.backends(id=number)
    (mirror,) = chain.mirrors()
    assert ("running", False) == (control["status"], control["can_load_models"])
    assert ("swarmswarmbackend", f"[Remote from {number}: far] Canvas 0", 2, True) == tuple(
        mirror[key] for key in ("type", "title", "max_usages", "can_load_models")
    )
    theirs = chain.worker.server.client().post("ListBackends")["0"]["features"]
    assert set(theirs) == set(mirror["features"])
    assert "brush" in theirs
    assert 1 == len(mirror["via"])
    assert {str(number)} == chain.front.client().post("ListBackends").keys()


def test_an_interrupt_ends_one_job(chain):
    """Of two users' jobs on one remote backend the interrupted one ends there, and the other one is made."""
    chain.connect()
    clients = [chain.ready(), chain.front.client()]
    answers = {}

    def generate(name, client):
        wanted = {**ONE, "prompt": f"slow {name}", "steps": 40}
        answers[name] = client.post("GenerateText2Image", **wanted)

    threads = [threading.Thread(target=generate, args=each) for each in zip("ab", clients, strict=True)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(chain.worker.lines("begin")) == 2)
    assert {"success": True} == clients[0].post("InterruptAll", other_sessions=False)
    wait_for(lambda: chain.worker.lines("stopped slow a"))
    for thread in threads:
        thread.join(30)
    assert "interrupted" == answers["a"]["error_id"]
    assert 1 == len(answers["b"]["images"]), answers["b"]
    assert [] == chain.worker.lines("stopped slow b")


def test_memory_is_freed_there(chain):
    """Freeing memory asks the worker, and says what it says."""
    chain.connect()
    (mirror,) = (chain.ready(), chain.mirrors())[1]
    answer = chain.front.client().post("FreeBackendMemory", backend=str(mirror["id"]))
    assert {"result": True, "count": 0} == answer


def test_an_init_image_goes_through(chain):
    """The picture that another one starts from, and its LoRAs, arrive at the worker's backend as they were given."""
    stream = io.BytesIO()
    Image.new("RGB", (48, 32), (200, 10, 30)).save(stream, "PNG")
    given = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    chain.connect()
    answer = chain.ready().post("GenerateText2Image", **ONE, initimage=given, initimagecreativity=0.25)
    assert 1 == len(answer["images"]), answer
    assert [f"init {hashlib.sha256(stream.getvalue()).hexdigest()} 0.25"] == chain.worker.lines("init")


def test_a_backend_that_is_chosen(chain):
    """Which backend a picture is to be made with is said in this server's terms, and is not told to the worker."""
    chain.connect()
    client = chain.ready()
    (mirror,) = chain.mirrors()
    chosen = {"exactbackendid": str(mirror["id"]), "internalbackendtype": "swarmswarmbackend"}
    answer = client.post("GenerateText2Image", **ONE, **chosen)
    assert 1 == len(answer["images"]), answer
    assert "backend" not in chain.worker.lines("begin")[0]


def test_a_refresh_reaches_the_worker(chain):
    """A refresh here has the worker look for new models, and what it finds is listed here at once."""
    chain.connect()
    client = chain.ready()
    name = f"new{time.monotonic_ns()}"
    write_model(chain.worker.server.data_dir, name)
    wait_for(lambda: name in json.dumps(client.post("TriggerRefresh")["models"]), 60)
    (listed,) = [
        entry["local"]
        for entry in client.post("ListModels", path="", depth=5)["files"]
        if entry["name"].startswith(name)
    ]
    assert listed is False


def test_deleted(chain):
    """With the connection its children go."""
    number = chain.connect()
    client = chain.ready()
    assert {"result": "Deleted."} == client.post("DeleteBackend", backend_id=number)
    wait_for(lambda: chain.backends() == [])
