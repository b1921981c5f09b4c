"""Generation on a server through another one."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

from PIL import Image
from two_servers import CANVAS, NOT_NEEDED, QUICK, Chain, Worker, has_run, metadata, wait_for, write_model

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
    assert ("swarmswarmbackend", "[Remote from 0: far] Canvas 0", 1, True) == tuple(
        mirror[key] for key in ("type", "title", "max_usages", "can_load_models")
    )
    theirs = chain.worker.server.client().post("ListBackends")["0"]["features"]
    assert set(theirs) == set(mirror["features"])
    assert "brush" in theirs
    assert 1 == len(mirror["via"])
    assert {"0"} == chain.front.client().post("ListBackends").keys()


def test_an_interrupt_ends_one_job(start_worker, start_front, chain_of):
    """Of two users' jobs on one remote backend the interrupted one ends there, and the other one is made."""
    chain = chain_of(start_front(), start_worker(CANVAS_SLOTS="2"))
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


def test_a_killed_worker_comes_back(chain, swarm_serve):
    """A picture whose worker is killed waits, and is made when the worker is there again; all by itself."""
    number = chain.connect()
    client, port = chain.ready(), chain.worker.server.url.rpartition(":")[2]
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(
            client.post("GenerateText2Image", **{**ONE, "prompt": "slow", "steps": 60})
        )
    )
    thread.start()
    wait_for(lambda: chain.worker.lines("begin"))
    chain.worker.server.kill()
    wait_for(lambda: chain.backends(id=number, status="errored"))
    wait_for(lambda: chain.mirrors(status="errored"))
    old = chain.worker.server
    swarm_serve(*old.args, "--port", port, data_dir=old.data_dir, **old.env)
    thread.join(60)
    assert 1 == len(answers[0].get("images", ())), answers
    assert 1 == len(chain.mirrors(status="running"))
    assert chain.backends(id=number, status="running")


def test_idle(chain, swarm_serve):
    """With AllowIdle a lost worker shows as idle, here and for its children, and what is asked meanwhile is told so."""
    number = chain.connect(AllowIdle=True)
    chain.ready()
    os.kill(chain.worker.server.process.pid, signal.SIGKILL)
    wait_for(lambda: chain.backends(id=number, status="idle") and chain.mirrors(status="idle"))


def test_a_worker_that_is_not_there_yet(start_worker, start_front, chain_of):
    """A backend whose server is started later finds it by itself."""
    chain = chain_of(start_front(), start_worker())
    old, port = chain.worker.server, chain.worker.server.url.rpartition(":")[2]
    old.kill()
    number = chain.connect()
    wait_for(lambda: chain.backends(id=number, status="errored"))
    old.args += ["--port", port]
    old.start()
    wait_for(lambda: has_run(chain.worker))
    wait_for(lambda: chain.mirrors(status="running"))


def test_itself(start_front):
    """A server that is given its own address says so, and does not become its own backend."""
    front = start_front()
    client = front.client()
    number = client.post("AddNewBackend", type_id="swarmswarmbackend")["id"]
    client.post("EditBackend", backend_id=number, title="", settings={"Address": front.url})
    front.wait_for_log("leads to this server itself")
    assert ["errored"] == wait_for(
        lambda: [
            each["status"]
            for each in client.post("ListBackends", nonreal=True).values()
            if each["status"] == "errored"
        ]
    )


def test_deleted(chain):
    """With the connection its children go."""
    number = chain.connect()
    client = chain.ready()
    assert {"result": "Deleted."} == client.post("DeleteBackend", backend_id=number)
    wait_for(lambda: chain.backends() == [])


def test_credentials(start_worker, start_front, chain_of):
    """A worker with accounts refuses a wrong token, which is told without it, and works with the right one."""
    worker = start_worker()
    worker.server.stop()
    env = {**worker.server.env, "SWARMKERNEL_ACCOUNTS__REQUIRED": "true"}

    def run(*command: str, said: str = "") -> str:
        """What a command about users prints."""
        done = subprocess.run(
            [sys.executable, "-m", "swarmkernel", *command, "--data-dir", str(worker.server.data_dir)],
            env={**os.environ, **env},
            input=said,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    run("users", "add", "ann", "--role", "owner", "--password-stdin", said="correct horse battery\n")
    token = run("tokens", "create", "ann", "--reason", "chain").split()[-1]
    worker.server.env = env
    worker.server.start()
    chain = chain_of(start_front(), worker)
    number = chain.connect(AuthorizationHeader="Bearer wrong-secret")
    wait_for(lambda: chain.backends(id=number, status="errored"))
    client = chain.front.client()
    client.post(
        "EditBackend", backend_id=number, title="far", settings={"AuthorizationHeader": f"Bearer {token}"}
    )
    assert 1 == len(chain.ready().post("GenerateText2Image", **ONE)["images"])
    shown = json.dumps([chain.backends(), client.post("ListBackendTypes")])
    for secret in (token, "wrong-secret"):
        assert secret not in shown
        assert not [line for line in chain.front.log if secret in line]


def test_each_has_the_other(swarm_dists, swarm_serve, tmp_path):
    """Two servers that have each other for a backend each use the other's own backend, once."""
    swarm_dists.add(
        "canvas",
        CANVAS.read_text(),
        requires=["swarmkernel", "swarmkernel-backend-api", "swarmkernel-t2i-api"],
    )
    servers = []
    for name in ("one", "two"):
        write_model(tmp_path / name, "alpha")
        servers.append(
            swarm_serve(
                *NOT_NEEDED, data_dir=tmp_path / name, **QUICK, CANVAS_DIARY=str(tmp_path / f"diary-{name}")
            )
        )
    one, two = servers
    chains = [
        Chain(one, Worker(two, tmp_path / "diary-two")),
        Chain(two, Worker(one, tmp_path / "diary-one")),
    ]
    for chain in chains:
        chain.connect()
    for chain in chains:
        chain.ready()
    time.sleep(7)
    assert [1, 1] == [len(chain.mirrors()) for chain in chains]
    assert [3, 3] == [len(chain.backends()) for chain in chains]
