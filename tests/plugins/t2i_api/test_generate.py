"""Generating on a real server: its own process, real workers, real sockets."""

import base64
import hashlib
import io
import json
import random
import re
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter

import orjson
import psutil
from PIL import Image

from tests.plugins.t2i_api.conftest import write_model

ZERO = {"waiting_gens": 0, "loading_models": 0, "waiting_backends": 0, "live_gens": 0}
#: The smallest picture.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
STATUS_KEYS = {"status", "backend_status", "supported_features"}


def kinds(frames):
    """What each frame is, without repetitions in a row."""
    found = ["status" if "status" in frame else next(iter(frame)) for frame in frames]
    return [kind for number, kind in enumerate(found) if number == 0 or kind != found[number - 1]]


def of(frames, kind):
    """The values of all frames of a kind."""
    return [frame[kind] for frame in frames if kind in frame]


def pixel(data):
    """The colour and the size of a picture."""
    image = Image.open(io.BytesIO(data))
    return image.convert("RGB").getpixel((0, 0)), image.size


def decode(url):
    """The bytes of a data URL."""
    head, _, body = url.partition(",")
    assert "data:image/png;base64" == head
    return base64.b64decode(body)


def read(ws, kind, timeout=20):
    """The next frame of a kind from an open socket."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        frame = orjson.loads(ws.recv(timeout=timeout))
        if kind in frame:
            return frame
    raise AssertionError(f"no frame {kind!r} came")


def test_frames(studio):
    """The frames of a request come in the order that clients rely on, and each says what it should."""
    client = studio.client()
    frames = client.stream("GenerateText2ImageWS", images=2, prompt="a cat", seed=5, steps=4)
    seen = kinds(frames)
    assert "status" == seen[0]
    assert ["discard_indices", "socket_intention", "status"] == seen[-3:]
    assert seen.index("gen_progress") < seen.index("image")
    assert frames.index({"discard_indices": []}) > max(n for n, f in enumerate(frames) if "image" in f)
    assert {"socket_intention": "close"} == frames[-2]
    assert STATUS_KEYS == set(frames[-1])
    assert ZERO == frames[-1]["status"]
    assert 2 == frames[0]["status"]["waiting_gens"]
    assert {"keep_alive": True} in frames


def test_images(studio):
    """Each picture is told once, is there at once under its path, and has the seed's colour."""
    client = studio.client()
    with client.socket(
        "GenerateText2ImageWS", images=2, prompt="a cat", seed=5, steps=2, width=128, height=64
    ) as ws:
        images = sorted((read(ws, "image") for _ in range(2)), key=itemgetter("batch_index"))
        assert 1 == len({frame["request_id"] for frame in images})
        for index, frame in enumerate(images):
            assert str(index) == frame["batch_index"]
            assert re.fullmatch(r"View/local/raw/\d{4}-\d\d-\d\d/\d{7}-a cat-alpha(-1)?\.png", frame["image"])
            reply = client.http.get(f"/{frame['image']}")
            assert (200, "image/png") == (reply.status_code, reply.headers["content-type"])
            assert ((5 + index, 0, 77), (128, 64)) == pixel(reply.content)
            assert frame["metadata"] == Image.open(io.BytesIO(reply.content)).text["parameters"]
            params = json.loads(frame["metadata"])["sui_image_params"]
            assert (5 + index, "a cat", "alpha") == (params["seed"], params["prompt"], params["model"])
            assert "generation_time" in json.loads(frame["metadata"])["sui_extra_data"]
            thumbnail = client.http.get(f"/{frame['image']}?preview=true")
            assert "image/jpeg" == thumbnail.headers["content-type"]


def test_progress(studio):
    """Progress rises to one; the first tells metadata of a preview, and previews are JPEGs as data URLs."""
    frames = studio.client().stream("GenerateText2ImageWS", images=1, prompt="slow cat", seed=1, steps=6)
    progress = of(frames, "gen_progress")
    percents = [one["current_percent"] for one in progress]
    assert sorted(percents) == percents
    assert (0.0, 1.0) == (percents[0], percents[-1])
    (told,) = {(one["batch_index"], one["request_id"]) for one in progress}
    assert ("0", True) == (told[0], told[1].isdigit())
    extra = json.loads(progress[0]["metadata"])["sui_extra_data"]
    assert extra["is_preview"] is True
    assert "preview_notice" in extra
    assert not [one for one in progress[1:] if "metadata" in one]
    previews = [one["preview"] for one in progress if "preview" in one]
    assert previews
    assert {"data:image/jpeg;base64"} == {preview.partition(",")[0] for preview in previews}


def test_no_previews(studio):
    """Who asks for no previews gets progress without them."""
    frames = studio.client().stream("GenerateText2ImageWS", images=1, prompt="slow", steps=5, nopreviews=True)
    assert of(frames, "gen_progress")
    assert not [one for one in of(frames, "gen_progress") if "preview" in one]


def test_post(studio):
    """Plain HTTP answers all pictures by index, of every batch; values may all be text."""
    client = studio.client()
    reply = client.post(
        "GenerateText2Image", images="2", BatchSize="2", prompt="x", Seed="10", steps="1", donotsave="true", width="64",
        height="64", whatever="else", presets=[], extra_metadata={},
    )  # fmt: skip
    assert ["images"] == list(reply)
    assert [((red, 0, 77), (64, 64)) for red in (10, 11, 12, 13)] == [
        pixel(decode(url)) for url in reply["images"]
    ]


def test_same_seed_same_bytes(studio):
    """The same seed gives the same bytes, and another seed gives others."""
    client = studio.client()
    body = {"images": 1, "prompt": "x", "steps": 1, "donotsave": True}
    first, again, other = (
        client.post("GenerateText2Image", **body, seed=seed)["images"] for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_not_saved(studio):
    """With donotsave the picture comes as data, with metadata beside it, and no file is kept."""
    frames = studio.client().stream(
        "GenerateText2ImageWS", images=1, prompt="x", steps=1, donotsave=True, forwardswarmdata=True
    )
    position = next(number for number, frame in enumerate(frames) if "image" in frame)
    image = frames[position]
    assert "parameters" not in Image.open(io.BytesIO(decode(image["image"]))).info
    assert "x" == json.loads(image["metadata"])["sui_image_params"]["prompt"]
    used = frames[position - 1]["raw_swarm_data"]["params_used"]
    assert {"prompt", "steps", "model", "seed"} <= set(used)
    assert set() == studio.files()


def test_further_requests(open_studio):
    """Further requests on the same socket go on counting indices; a bad one among them costs only itself."""
    client = open_studio().client()
    with client.socket("GenerateText2ImageWS", images=2, batchsize=2, prompt="slow", steps=3, seed=1) as ws:
        ws.send(
            json.dumps({"images": 1, "prompt": "second", "steps": 1, "seed": 50, "session_id": "ignored"})
        )
        ws.send(json.dumps({"prompt": "no images"}))
        ws.send(json.dumps({"images": 1, "prompt": "x", "model": "unheard of"}))
        frames = [orjson.loads(message) for message in ws]
    images = {frame["batch_index"]: frame["request_id"] for frame in frames if "image" in frame}
    assert {"0": "1001", "1": "1001", "2": "1001", "3": "1001", "4": "1002"} == images
    assert 2 == len(of(frames, "error"))
    assert 2 == len(of(frames, "discard_indices"))
    assert {"socket_intention": "close"} == frames[-2]


def test_request_in_the_grace(studio):
    """A request that comes after the end was announced, in time, is still served."""
    with studio.client().socket("GenerateText2ImageWS", images=1, prompt="x", steps=1) as ws:
        read(ws, "socket_intention")
        ws.send(json.dumps({"images": 1, "prompt": "y", "steps": 1}))
        assert "1" == read(ws, "image")["batch_index"]
        assert {"socket_intention": "close"} == read(ws, "socket_intention")
        assert ZERO == read(ws, "status")["status"]


BAD_INPUT = [
    {"model": "unheard of"},
    {"width": 10**9},
    {"steps": -1},
    {"cfgscale": "NaN"},
    {"prompt": "x" * 5_000_000},
    {"images": 10**6},
    {"images": 0},
    {"sampler": "unheard of"},
    {"exactbackendid": 99},
    {"missingthing": "on"},
    {"initimage": "data:image/png;base64,AAAAAAAAAAAA"},
    {"maskimage": f"data:image/png;base64,{PNG}"},
    {"initimage": PNG, "initimagecreativity": 2},
    {"loras": ["unheard of"]},
    {"extra_metadata": [1]},
    {"seed": [[[1]]]},
    {"width": {"a": 1}},
]


def test_bad_input(studio, subtests):
    """Bad input gets a clear error at once, over HTTP and over a socket, and nothing is generated."""
    client = studio.client()
    for body in BAD_INPUT:
        with subtests.test(**{key: str(value)[:40] for key, value in body.items()}):
            request = {"images": 1, "prompt": "x", "seed": 1, **body}
            started = time.monotonic()
            reply = client.raw("GenerateText2Image", {"session_id": client.session_id, **request})
            assert 200 == reply.status_code
            assert {"error", "error_id"} == set(reply.json())
            assert 10 < len(reply.json()["error"]) < 1000
            frames = client.stream("GenerateText2ImageWS", **request)
            assert [reply.json()["error"]] == of(frames, "error")
            seen = [kind for kind in kinds(frames) if kind not in ("keep_alive", "discard_indices")]
            assert ["status", "error"] == seen[:2]
            assert ["socket_intention", "status"] == seen[-2:]
            assert ZERO == frames[-1]["status"]
            assert time.monotonic() - started < 3
    assert [] == studio.lines("begin")


def test_init_image_and_loras(studio):
    """A backend gets a large init image byte for byte, and the LoRAs' files; one that cannot use a mask gets none."""
    write_model(studio.folder, "../Lora/ink", "stable-diffusion-v1/lora")
    client = studio.client()
    client.post("TriggerRefresh")
    file = io.BytesIO()
    Image.frombytes("RGB", (1000, 900), random.Random(1).randbytes(2_700_000)).save(file, "PNG")
    image = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    wanted = {"images": 1, "prompt": "x", "steps": 2, "initimage": image, "initimagecreativity": 0.5}
    frames = client.stream("GenerateText2ImageWS", **wanted, loras="ink", loraweights="0.75")
    assert 1 == len(of(frames, "image"))
    assert [f"init {hashlib.sha256(file.getvalue()).hexdigest()} 0.5"] == studio.lines("init")
    assert ["lora ink.safetensors 0.75"] == studio.lines("lora")
    answer = client.post("GenerateText2Image", **wanted, maskimage=PNG)
    assert "No backend fits this request: missing feature mask_image." == answer["error"]


def test_missing_images(studio):
    """A request that does not say how many images is told so."""
    assert "missing_parameter" == studio.client().post("GenerateText2Image", prompt="x")["error_id"]


def test_error_stops_the_rest(studio):
    """The first error is the answer and ends the request; nothing of it stays in the queue."""
    client = studio.client()
    reply = client.post("GenerateText2Image", images=5, prompt="refuse", steps=3)
    assert {"error": "the canvas is full", "error_id": "canvas_full"} == reply
    frames = client.stream("GenerateText2ImageWS", images=5, prompt="refuse", steps=3)
    assert ["the canvas is full"] == of(frames, "error")
    assert ["discard_indices", "socket_intention", "status"] == kinds(frames)[-3:]
    assert ZERO == frames[-1]["status"]
    assert 2 == len(studio.lines("begin"))


def test_continue_after_errors(studio):
    """Who wants to go on after errors gets what could be made, and no error frames."""
    client = studio.client()
    frames = client.stream(
        "GenerateText2ImageWS", images=3, prompt="refuse", steps=3, continueaftererrors=True
    )
    assert [] == of(frames, "error")
    assert 3 == len(studio.lines("begin"))
    assert "error" in client.post(
        "GenerateText2Image", images=1, prompt="refuse", steps=3, continueaftererrors=True
    )


def test_empty(studio):
    """A backend that ends without a picture is an error, not an empty answer."""
    assert (
        "without a picture" in studio.client().post("GenerateText2Image", images=1, prompt="empty")["error"]
    )


def test_interrupt(studio):
    """An interrupt stops the running picture within a step, drops the waiting ones, and says so once."""
    client = studio.client()
    with client.socket("GenerateText2ImageWS", images=4, prompt="slow", steps=100) as ws:
        studio.wait_for("begin")
        time.sleep(0.2)
        asked = time.monotonic()
        assert {"success": True} == client.post("InterruptAll", other_sessions=False)
        frames = [orjson.loads(message) for message in ws]
    assert ["The generation was interrupted."] == of(frames, "error")
    assert [] == of(frames, "image")
    assert ["discard_indices", "socket_intention", "status"] == kinds(frames)[-3:]
    assert ZERO == frames[-1]["status"]
    studio.wait_for("stopped slow")
    assert time.monotonic() - asked < 2.0
    assert 1 == len(studio.lines("begin"))
    assert [] == studio.lines("start"), "the worker obeyed, so it is still the same"
    assert client.post("GenerateText2Image", images=1, prompt="after", steps=1)["images"]


def test_interrupt_is_of_the_session(studio):
    """Interrupting stops one session's work, or all of the user's sessions' if that is asked for."""
    mine, other = studio.client(), studio.client()
    with ThreadPoolExecutor() as pool:
        work = pool.submit(other.post, "GenerateText2Image", images=1, prompt="slow", steps=20)
        studio.wait_for("begin slow")
        mine.post("InterruptAll", other_sessions=False)
        assert work.result(20)["images"]
        work = pool.submit(other.post, "GenerateText2Image", images=1, prompt="slow", steps=150)
        studio.wait_for("begin slow", 2)
        mine.post("InterruptAll", other_sessions=True)
        assert "interrupted" == work.result(20)["error_id"]


def test_worker_dies_once(open_studio):
    """A worker that is killed in the middle of a picture costs nothing: the picture is made on the next one."""
    studio = open_studio()
    client = studio.client()
    reply = client.post("GenerateText2Image", images=2, prompt="die-once", steps=4, seed=9, donotsave=True)
    assert [(9, 0, 77), (10, 0, 77)] == [pixel(decode(url))[0] for url in reply["images"]]
    assert 2 == len(studio.lines("start"))
    assert 2 == len(studio.lines("load"))
    assert ZERO == client.post("GetCurrentStatus")["status"]


def test_worker_dies_twice(studio):
    """A picture over which two workers died is given up, with the reason; others are still made."""
    client = studio.client()
    reply = client.post("GenerateText2Image", images=1, prompt="die", steps=4)
    assert "worker_lost" == reply["error_id"]
    assert 2 == len(studio.lines("begin die"))
    assert client.post("GenerateText2Image", images=1, prompt="after", steps=1)["images"]


def test_client_gone(studio):
    """Work goes on, and is saved, when its client is gone."""
    client = studio.client()
    with client.socket("GenerateText2ImageWS", images=2, prompt="slow", steps=5) as ws:
        studio.wait_for("begin")
        ws.socket.close()
    studio.wait_for("end slow", 2)
    until = time.monotonic() + 10
    while client.post("GetCurrentStatus")["status"] != ZERO:
        assert time.monotonic() < until
    assert 2 == len([path for path in studio.files() if path.suffix == ".png"])


def test_many_clients_gone(open_studio):
    """Clients that vanish without a word cost their pictures nothing, and the server no descriptors."""
    studio = open_studio(CANVAS_SLOTS="4")
    client = studio.client()
    client.post("GenerateText2Image", images=1, prompt="first", steps=1)
    process = psutil.Process(studio.server.process.pid)
    before = process.num_fds()
    for _ in range(30):
        with client.socket("GenerateText2ImageWS", images=1, prompt="gone", steps=3) as ws:
            ws.recv()
            ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ws.socket.close()
    studio.wait_for("end gone", 30)
    until = time.monotonic() + 10
    while client.post("GetCurrentStatus")["status"] != ZERO or process.num_fds() > before + 2:
        assert time.monotonic() < until, f"{process.num_fds()} descriptors, {before} before"
        time.sleep(0.05)
    assert 31 == len([path for path in studio.files() if path.suffix == ".png"])


def test_one_load_for_many(open_studio):
    """Many requests for a model that is not loaded load it once, and all sessions see that it is loading."""
    studio = open_studio(CANVAS_LOAD="1.5", CANVAS_SLOTS="4")
    clients = [studio.client() for _ in range(5)]
    with ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(c.post, "GenerateText2Image", images=3, prompt="x", steps=1, model="beta")
            for c in clients
        ]
        studio.wait_for("load")
        until = time.monotonic() + 1.5
        while [1] * 5 != (seen := [c.post("GetCurrentStatus")["status"]["loading_models"] for c in clients]):
            assert time.monotonic() < until, seen
        assert [3] * 5 == [len(call.result(20)["images"]) for call in calls]
    assert ["load beta.safetensors"] == studio.lines("load")


def test_broken_model(open_studio):
    """A model that cannot be loaded fails its own requests, once for all that wait; the others are served."""
    studio = open_studio(models=("alpha", "broken"), CANVAS_LOAD="0.3")
    client, other = studio.client(), studio.client()
    with ThreadPoolExecutor() as pool:
        bad = [
            pool.submit(client.post, "GenerateText2Image", images=2, prompt="x", model="broken")
            for _ in range(3)
        ]
        studio.wait_for("load broken")
        good = pool.submit(other.post, "GenerateText2Image", images=1, prompt="x", steps=1, model="alpha")
        assert good.result(20)["images"]
        assert {"model_load_failed"} == {call.result(20)["error_id"] for call in bad}
    assert "this file is broken" in bad[0].result()["error"]
    assert "model_load_failed" == client.post("GenerateText2Image", images=1, model="broken")["error_id"]
    assert 1 == len(studio.lines("load broken"))


def test_affinity(open_studio):
    """Two backends keep their models while two users work on one each."""
    studio = open_studio(CANVAS_COUNT="2")
    clients = {model: studio.client() for model in ("alpha", "beta")}
    for _ in range(4):
        with ThreadPoolExecutor() as pool:
            calls = [
                pool.submit(client.post, "GenerateText2Image", images=2, prompt="x", steps=2, model=model)
                for model, client in clients.items()
            ]
            assert all(call.result(20)["images"] for call in calls)
    assert 2 == len(studio.lines("load"))


def test_slots_in_parallel(open_studio):
    """A backend with four places makes four pictures at once."""
    studio = open_studio(CANVAS_SLOTS="4")
    frames = studio.client().stream("GenerateText2ImageWS", images=8, prompt="slow", steps=6)
    assert 8 == len(of(frames, "image"))
    live = [status["live_gens"] for status in of(frames, "status")]
    assert 4 <= max(live) <= 8
    notes = [line.split()[0] for line in studio.lines() if line.startswith(("begin", "end"))]
    assert ["begin"] * 4 == notes[:4]


def test_exact_backend(open_studio):
    """A request can be sent to one backend, and to one type of backend."""
    studio = open_studio(CANVAS_COUNT="2")
    client = studio.client()
    for _ in range(3):
        assert client.post("GenerateText2Image", images=1, prompt="x", steps=1, exactbackendid=1)["images"]
    shown = client.post("ListBackends", full_data=True)
    assert {"0": None, "1": "alpha.safetensors"} == {key: one["current_model"] for key, one in shown.items()}
    reply = client.post("GenerateText2Image", images=1, prompt="x", steps=1, internalbackendtype="canvas")
    assert reply["images"]


def test_queue_cap(open_studio):
    """A user may have only so many pictures waiting; what is over is refused at once, the rest is made."""
    studio = open_studio(SWARMKERNEL_T2I_API__MAX_QUEUED="5")
    client = studio.client()
    with ThreadPoolExecutor() as pool:
        work = pool.submit(client.post, "GenerateText2Image", images=4, prompt="slow", steps=10)
        studio.wait_for("begin")
        assert "limit_exceeded" == client.post("GenerateText2Image", images=3, prompt="x")["error_id"]
        client.post("InterruptAll", other_sessions=False)
        assert "interrupted" == work.result(20)["error_id"]


def test_user_limit(open_studio):
    """A user has at most as many pictures in the making as the setting says, over all of their sessions."""
    studio = open_studio(CANVAS_SLOTS="8", SWARMKERNEL_T2I_API__MAX_SIMULTANEOUS="2")
    with ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(studio.client().post, "GenerateText2Image", images=3, prompt="slow", steps=4)
            for _ in range(2)
        ]
        assert all(len(call.result(20)["images"]) == 3 for call in calls)
    running = most = 0
    for line in studio.lines():
        running += line.startswith("begin") - line.startswith("end")
        most = max(most, running)
    assert 2 == most


def test_no_backend(open_studio):
    """Without a backend a request is refused at once, and says why."""
    studio = open_studio()
    client = studio.client()
    client.post("ToggleBackend", backend_id=0, enabled=False)
    reply = client.post("GenerateText2Image", images=1, prompt="x")
    assert "no_backend" == reply["error_id"]
    assert "switched off" in reply["error"]


def test_waits_for_start(studio):
    """A request that comes while the only backend restarts waits for it."""
    client = studio.client()
    with ThreadPoolExecutor() as pool:
        restart = pool.submit(client.post, "RestartBackends")
        studio.wait_for("stop")
        assert client.post("GenerateText2Image", images=1, prompt="x", steps=1)["images"]
        assert "count" in restart.result(20) or "result" in restart.result(20)


def test_stall(open_studio):
    """A backend that shows no progress for too long loses its picture, and is used again."""
    studio = open_studio(CANVAS_STEP="1.5", SWARMKERNEL_T2I_API__STALL_MINUTES="0.01")
    reply = studio.client().post("GenerateText2Image", images=1, prompt="x", steps=1)
    assert "stalled" == reply["error_id"]
    studio.wait_for("stopped x")


def test_waits_too_long(open_studio):
    """A picture that waits longer than it may is refused, and says so; the one that runs is finished."""
    studio = open_studio(SWARMKERNEL_T2I_API__QUEUE_MINUTES="0.01")
    with ThreadPoolExecutor() as pool:
        work = pool.submit(studio.client().post, "GenerateText2Image", images=1, prompt="slow", steps=60)
        studio.wait_for("begin")
        reply = studio.client().post("GenerateText2Image", images=1, prompt="late", steps=1)
        assert "queue_timeout" == reply["error_id"]
        assert work.result(20)["images"]


def test_interrupt_while_loading(open_studio):
    """Interrupting while the model loads leaves no counter behind, and does not end the load for others."""
    studio = open_studio(CANVAS_LOAD="1.0")
    client, other = studio.client(), studio.client()
    with ThreadPoolExecutor() as pool:
        work = pool.submit(client.stream, "GenerateText2ImageWS", images=3, prompt="x", steps=1)
        studio.wait_for("load")
        patient = pool.submit(other.post, "GenerateText2Image", images=1, prompt="y", steps=1)
        time.sleep(0.1)
        client.post("InterruptAll", other_sessions=False)
        assert ZERO == client.post("GetCurrentStatus")["status"]
        frames = work.result(20)
        assert [] == of(frames, "error") + of(frames, "image")
        assert patient.result(20)["images"]
    assert 1 == len(studio.lines("load"))


def test_keep_alive(open_studio):
    """While a picture takes long, the socket says regularly that it lives."""
    studio = open_studio(CANVAS_LOAD="1.0", SWARMKERNEL_T2I_API__KEEP_ALIVE="0.2")
    frames = studio.client().stream("GenerateText2ImageWS", images=1, prompt="x", steps=1)
    quiet = frames[: next(number for number, frame in enumerate(frames) if "gen_progress" in frame)]
    assert quiet.count({"keep_alive": True}) >= 3


def test_slow_client(open_studio):
    """A client that reads slowly gets every picture; others are not held up by it."""
    studio = open_studio(SWARMKERNEL_T2I_API__OUTBOX_BYTES="1000")
    slow, quick = studio.client(), studio.client()
    body = {"images": 20, "steps": 3, "width": 1024, "height": 1024, "donotsave": True}
    with slow.socket("GenerateText2ImageWS", prompt="slow client", **body) as ws:
        studio.wait_for("end slow client", 20)
        assert 1 == len(quick.post("GenerateText2Image", images=1, prompt="quick", steps=1)["images"])
        frames = [orjson.loads(message) for message in ws]
    assert [str(number) for number in range(20)] == sorted(of(frames, "batch_index"), key=int)


def test_third_party_param(studio):
    """A parameter of another plugin is listed and reaches the backend, typed."""
    client = studio.client()
    listed = {param["id"]: param for param in client.post("ListT2IParams")["list"]}
    assert "Brush Size" == listed["brushsize"]["name"]
    client.post("GenerateText2Image", images=1, prompt="x", steps=1, Brush_Size="7")
    assert studio.lines("begin")[0].endswith("extra={'brushsize': 7}")


def test_list_params(studio):
    """The list has every part that clients load, with models by subtype, and follows the backends."""
    reply = studio.client().post("ListT2IParams")
    assert {
        "list", "groups", "models", "model_compat_classes", "model_classes", "wildcards", "param_edits",
    } == set(reply)  # fmt: skip
    assert [
        ["alpha.safetensors", "stable-diffusion-v1"],
        ["beta.safetensors", "stable-diffusion-v1"],
    ] == reply["models"]["Stable-Diffusion"]
    assert {"Stable-Diffusion", "VAE", "LoRA", "Embedding", "ControlNet"} <= set(reply["models"])
    params = {param["id"]: param for param in reply["list"]}
    assert ["0"] == params["exactbackendid"]["values"]
    assert "canvas" in params["internalbackendtype"]["values"]
    assert params["vae"]["toggleable"]
    assert 512 == reply["model_classes"]["stable-diffusion-v1"]["standard_width"]
    assert 16 == reply["model_compat_classes"]["stable-diffusion-v1"]["resolution_precision"]
    assert {param["group"] for param in reply["list"]} - {None} <= {group["id"] for group in reply["groups"]}


def test_param_edits(studio):
    """What a user stored about how parameters are shown comes back with the list."""
    client = studio.client()
    client.post("SetParamEdits", edits={"steps": {"default": "8"}})
    assert {"steps": {"default": "8"}} == client.post("ListT2IParams")["param_edits"]


def test_trigger_refresh(open_studio):
    """A refresh finds new models, but scans only once in a while, and only when strong."""
    studio = open_studio()
    client = studio.client()

    def names(**body):
        return [name for name, _ in client.post("TriggerRefresh", **body)["models"]["Stable-Diffusion"]]

    write_model(studio.folder, "gamma")
    assert "gamma.safetensors" not in names(strong=False)
    assert "gamma.safetensors" not in names(refreshType="wildcards")
    assert "gamma.safetensors" in names()
    write_model(studio.folder, "delta")
    assert "delta.safetensors" not in names()
    assert client.post("GenerateText2Image", images=1, prompt="x", steps=1, model="gamma")["images"]


def test_preset(studio):
    """A stored preset applies by its title."""
    client = studio.client()
    client.post(
        "AddNewPreset",
        title="Tiny",
        description="",
        raw={},
        param_map={"width": "64", "height": "64", "images": "2"},
    )
    reply = client.post("GenerateText2Image", images=1, prompt="x", steps=1, presets=["tiny"], donotsave=True)
    assert [(64, 64)] * 2 == [pixel(decode(url))[1] for url in reply["images"]]


def test_user_settings(open_studio):
    """Format, quality and path follow the user's settings."""
    client = open_studio().client()
    settings = {"fileformat.imageformat": "JPG", "outpathbuilder.format": "mine/[prompt]-[seed]"}
    assert {"success": True}.items() <= client.post("ChangeUserSettings", settings=settings).items()
    reply = client.post("GenerateText2Image", images=1, prompt="a dog", steps=1, seed=4)
    assert ["View/local/mine/a dog-4.jpg"] == reply["images"]
    assert "JPEG" == Image.open(io.BytesIO(client.http.get(f"/{reply['images'][0]}").content)).format


def test_two_users_share(studio):
    """One session's long list does not hold up another's single picture for longer than one picture of the list."""
    long, short = studio.client(), studio.client()
    done = threading.Event()
    with ThreadPoolExecutor() as pool:
        work = pool.submit(long.post, "GenerateText2Image", images=10, prompt="slow", steps=6)
        studio.wait_for("begin slow", 2)
        assert short.post("GenerateText2Image", images=1, prompt="short", steps=1)["images"]
        done.set()
        assert 10 == len(work.result(30)["images"])
