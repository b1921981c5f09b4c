"""A ComfyUI server as a backend."""

import asyncio
import threading
from contextlib import aclosing

import pytest
from fake_comfy import FakeComfy, painting, picture
from starlette.responses import PlainTextResponse

from swarmkernel_backend_api import (
    FREE_MEMORY,
    BackendError,
    Backends,
    BackendSlot,
    Freed,
    FreeMemory,
    Status,
    WorkerLostError,
)
from swarmkernel_backend_api.testing import fleet, until
from swarmkernel_backends_remote import RemoteSettings
from swarmkernel_backends_remote.addresses import Rules
from swarmkernel_backends_remote.comfy_backend import comfy_type
from swarmkernel_models_api import LOAD_MODEL, Loaded, LoadModel
from swarmkernel_t2i_api import (
    GENERATE,
    EncodedOutput,
    EncodedPreview,
    ImageJob,
    LoraUse,
    Progress,
)


@pytest.fixture(name="comfy")
def _comfy():
    with painting() as comfy:
        yield comfy


def network(rules: RemoteSettings | None = None):
    """Backends without second tries."""
    return fleet([comfy_type(Rules(rules or RemoteSettings()))], max_init_attempts=0)


async def connected(backends: Backends, comfy: FakeComfy, **settings: object) -> BackendSlot:
    """The server as a backend, once it is what it will be."""
    slot = await backends.add("comfyui_api", {"Address": comfy.address, **settings})
    await until(backends, lambda: slot.status not in {Status.WAITING, Status.LOADING})
    await until(backends, lambda: slot.status is not Status.RUNNING or comfy.bodies("/ws"))
    return slot


def job(prompt: str = "a cat", **more: object) -> ImageJob:
    """A job."""
    return ImageJob("1", prompt, model="alpha", **{"width": 64, "height": 48, "steps": 4, **more})


async def generated(slot: BackendSlot, wanted: ImageJob) -> list:
    """All that a job gives."""
    async with aclosing(slot.invoke(GENERATE, wanted)) as replies:
        return [reply async for reply in replies]


async def true(condition, seconds: float = 10.0) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_picture(comfy: FakeComfy) -> None:
    """A job becomes a graph with its values; its picture, its progress and its previews come back, and it is forgotten there."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        replies = await generated(slot, job(negative_prompt="dog", seed=7, cfg_scale=5.5, scheduler="karras"))
        await true(lambda: comfy.bodies("/history") and not comfy.history)
    (graph,) = comfy.graphs()
    steps = [reply.step for reply in replies if isinstance(reply, Progress)]
    assert (sorted(set(steps)), 4) == (steps, steps[-1])
    assert [r for r in replies if isinstance(r, EncodedPreview)]
    assert isinstance(replies[-1], EncodedOutput)
    assert {
        "model": ["checkpoint", 0],
        "positive": ["positive", 0],
        "negative": ["negative", 0],
        "latent_image": ["empty", 0],
        "seed": 7,
        "steps": 4,
        "cfg": 5.5,
        "sampler_name": "euler",
        "scheduler": "karras",
        "denoise": 1.0,
    } == graph["sampler"]["inputs"]
    assert ("a cat", "dog") == tuple(graph[node]["inputs"]["text"] for node in ("positive", "negative"))
    assert {"ckpt_name": "alpha.safetensors"} == graph["checkpoint"]["inputs"]
    assert {"type": "feature_flags", "data": {"supports_preview_metadata": True}} == comfy.bodies("/ws")[0]
    assert [] == comfy.bodies("/interrupt")


@pytest.mark.parametrize(
    ("prompt", "old"),
    [
        ("cached", False),
        ("png", False),
        ("state only", False),
        ("garbage", False),
        ("nothing", False),
        ("drop", False),
        ("anything", True),
        ("cached", True),
        ("nothing", True),
        ("drop", True),
    ],
)
async def test_what_is_told(comfy: FakeComfy, prompt: str, old: bool) -> None:
    """Whatever the server tells on the way and however old it is, the picture comes, and the next one too."""
    comfy.old = old
    async with network() as backends:
        slot = await connected(backends, comfy)
        replies = await generated(slot, job(prompt))
        assert isinstance(replies[-1], EncodedOutput)
        previews = [r for r in replies if isinstance(r, EncodedPreview)]
        steps = [r.step for r in replies if isinstance(r, Progress)]
        assert (prompt in {"png", "state only", "anything"}) <= bool(previews)
        assert (prompt in {"png", "state only", "anything"}) <= (4 in steps)
        assert isinstance((await generated(slot, job()))[-1], EncodedOutput)
        assert Status.RUNNING is slot.status


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (
            "node error",
            r"refused the graph: node checkpoint \(CheckpointLoaderSimple\), input ckpt_name: Value not in list",
        ),
        ("execution error", r"failed in its node sampler \(KSampler\): the canvas is torn"),
        ("not a picture", "cannot be read"),
        ("huge", "3000x3000 pixels"),
    ],
)
async def test_failures(comfy: FakeComfy, prompt: str, told: str) -> None:
    """What goes wrong there is told with node and input, is no lost worker, and the next picture is made."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        with pytest.raises(BackendError, match=told) as caught:
            await generated(slot, job(prompt))
        assert not isinstance(caught.value, WorkerLostError)
        assert isinstance((await generated(slot, job()))[-1], EncodedOutput)
        await true(lambda: not comfy.history)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"sampler": "strange"}, "no sampler strange. It has euler, "),
        ({"scheduler": "strange"}, "no scheduler strange"),
        ({"model": "gamma"}, "no Stable-Diffusion model gamma"),
        ({"model": None}, "needs a model"),
        ({"vae": "bad"}, "no VAE model bad"),
        ({"loras": (LoraUse("bad"),)}, "no LoRA model bad"),
        ({"variation_seed": 3, "variation_strength": 0.5}, "variation seed"),
    ],
)
async def test_what_it_cannot(comfy: FakeComfy, wanted: dict, told: str) -> None:
    """What the server does not have is refused before anything is sent there."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        with pytest.raises(BackendError, match=told):
            await generated(slot, ImageJob(**{"id": "1", "prompt": "x", "model": "alpha", **wanted}))
    assert [] == comfy.graphs()


async def test_all_parts(comfy: FakeComfy) -> None:
    """Init image, mask, LoRAs, VAE and CLIP stop become nodes that are linked in the right order."""
    wanted = job(
        init_image=picture("PNG", (30, 20)),
        mask_image=picture("PNG", (10, 10), 200),
        mask_blur=4,
        init_creativity=0.5,
        loras=(LoraUse("style", weight=0.5), LoraUse("style.safetensors", weight=0.25)),
        vae="good",
        clip_stop_at_layer=-2,
    )
    async with network() as backends:
        slot = await connected(backends, comfy)
        assert {"comfyui", "lora", "init_image", "mask_image"} == set(slot.features)
        await generated(slot, wanted)
    (graph,) = comfy.graphs()
    inputs = {role: node["inputs"] for role, node in graph.items()}
    assert {"lora", "lora_2"} == {role for role in graph if role.startswith("lora")}
    assert (["checkpoint", 0], ["lora", 0]) == (inputs["lora"]["model"], inputs["lora_2"]["model"])
    assert (0.5, 0.25) == (inputs["lora"]["strength_model"], inputs["lora_2"]["strength_clip"])
    assert (["lora_2", 1], -2) == tuple(inputs["clip_stop"][k] for k in ("clip", "stop_at_clip_layer"))
    assert ["clip_stop", 0] == inputs["positive"]["clip"] == inputs["negative"]["clip"]
    assert ["vae", 0] == inputs["decode"]["vae"] == inputs["init_encode"]["vae"]
    assert (["inpaint", 0], 0.5) == (inputs["sampler"]["latent_image"], inputs["sampler"]["denoise"])
    assert (["init_encode", 0], ["mask", 0]) == (inputs["inpaint"]["samples"], inputs["inpaint"]["mask"])
    assert ["mask_blur", 0] == inputs["mask"]["image"]
    assert (["init_scale", 0], ["decode", 0]) == tuple(
        inputs["keep_unmasked"][k] for k in ("destination", "source")
    )
    assert ["keep_unmasked", 0] == inputs["save"]["images"]
    assert inputs["init_file"]["image"].endswith(".png [temp]")
    assert [wanted.init_image in body for body in comfy.bodies("/upload/image")] == [True, False]


async def test_interrupt_of_one(comfy: FakeComfy) -> None:
    """Interrupting the job that runs leaves the one behind it alone, and one that waits is only taken from the queue."""
    async with network() as backends:
        slot = await connected(backends, comfy, OverQueue=2)
        running = asyncio.create_task(generated(slot, job("hang")))
        await true(lambda: comfy.ran == ["hang"])
        behind = asyncio.create_task(generated(slot, job("behind")))
        await true(lambda: len(comfy.graphs()) == 2)
        waiting = asyncio.create_task(generated(slot, job("waiting")))
        await true(lambda: len(comfy.graphs()) == 3)
        waiting.cancel()
        await true(lambda: len(comfy.bodies("/history")) == 1)
        assert [] == comfy.bodies("/interrupt")
        running.cancel()
        assert isinstance((await behind)[-1], EncodedOutput)
        await true(lambda: not comfy.history)
    ids = [body["prompt_id"] for body in comfy.bodies("/prompt")]
    assert ["hang", "behind"] == comfy.ran
    assert {ids[0]} == {body["prompt_id"] for body in comfy.bodies("/interrupt")}


@pytest.mark.parametrize("old", [False, True])
async def test_interrupt_of_what_waits(comfy: FakeComfy, old: bool) -> None:
    """A job that a server is slow to take from its queue ends, and somebody else's that runs goes on, however old the server."""
    comfy.old = old
    async with network() as backends:
        slot = await connected(backends, comfy, OverQueue=1)
        other = asyncio.create_task(generated(slot, job("slow", steps=25)))
        await true(lambda: comfy.ran == ["slow"])
        waiting = asyncio.create_task(generated(slot, job("waiting")))
        await true(lambda: len(comfy.graphs()) == 2)
        comfy.deaf = 2
        waiting.cancel()
        assert isinstance((await other)[-1], EncodedOutput)
        await true(lambda: not comfy.history)
    assert (["slow"], []) == (comfy.ran, comfy.bodies("/interrupt"))


async def test_interrupt_of_what_just_ends(comfy: FakeComfy) -> None:
    """A server that knows nothing of a job any more at one moment is asked again at the next."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        running = asyncio.create_task(generated(slot, job("hang")))
        await true(lambda: comfy.ran == ["hang"])
        comfy.instead["/interrupt"] = PlainTextResponse("it does not run", 404)
        running.cancel()
        await true(lambda: len(comfy.bodies("/queue")) > 1)
        comfy.instead.clear()
        await true(lambda: comfy.bodies("/history"))
        assert 1 == len(comfy.bodies("/interrupt"))


@pytest.mark.parametrize("old", [False, True])
async def test_interrupt_while_it_is_sent(comfy: FakeComfy, old: bool) -> None:
    """A job that is interrupted while its graph is on the way does not stay behind: its id is waited for, and it ends."""
    comfy.old = old
    arrived = threading.Event()

    async def slow(scope, receive, send):
        arrived.set()
        await asyncio.sleep(0.5)
        await comfy.app(scope, receive, send)

    async with network() as backends:
        slot = await connected(backends, comfy)
        comfy.instead["/prompt"] = slow
        running = asyncio.create_task(generated(slot, job("hang")))
        await true(arrived.is_set)
        running.cancel()
        await true(lambda: comfy.bodies("/history"))
    assert 1 == len(comfy.graphs())
    assert ([], None) == (comfy._queue, comfy._running)


@pytest.mark.parametrize("prompt", ["hang", "hang monitor"])
async def test_stuck(comfy: FakeComfy, prompt: str) -> None:
    """A job of which nothing is heard for too long is given up and interrupted there, however much is heard of other things."""
    async with asyncio.timeout(30), network() as backends:
        slot = await connected(backends, comfy, StuckSeconds=1)
        with pytest.raises(BackendError, match="no sign of life for 1 seconds"):
            await generated(slot, job(prompt))
        await true(lambda: comfy.bodies("/interrupt"))
        assert isinstance((await generated(slot, job()))[-1], EncodedOutput)


async def test_away_and_back(comfy: FakeComfy) -> None:
    """A server that goes away loses its jobs, shows as errored, and is back by itself with one socket more."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        running = asyncio.create_task(generated(slot, job("hang")))
        await true(lambda: comfy.ran == ["hang"])
        comfy.stop()
        with pytest.raises(WorkerLostError):
            await running
        await until(backends, lambda: slot.status is Status.ERRORED)
        before = comfy.connections
        comfy.start()
        await until(backends, lambda: slot.status is Status.RUNNING)
        assert isinstance((await generated(slot, job()))[-1], EncodedOutput)
    assert 1 == comfy.connections - before


async def test_away_at_first(comfy: FakeComfy) -> None:
    """A server that is not there yet is waited for, and then has its models and features."""
    comfy.stop()
    async with network() as backends:
        slot = await connected(backends, comfy, AllowIdle=True)
        assert (Status.IDLE, ["comfyui"]) == (slot.status, slot.features)
        comfy.start()
        await until(backends, lambda: slot.status is Status.RUNNING)
        assert {"alpha", "folder/beta"} == slot.models.stems["Stable-Diffusion"]
        assert "lora" in slot.features


async def test_lists(comfy: FakeComfy) -> None:
    """Its models are those of its loaders, with slashes; loading one that it has is at once, and memory is freed there."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        assert {
            "Stable-Diffusion": ["alpha.safetensors", "folder/beta.safetensors"],
            "LoRA": ["style.safetensors"],
            "VAE": ["good.safetensors"],
        } == {kind: list(models) for kind, models in slot.models.by_kind.items()}
        load = LoadModel("folder/beta.safetensors", "")
        assert [Loaded(load.name)] == [reply async for reply in slot.invoke(LOAD_MODEL, load)]
        with pytest.raises(BackendError, match="no Stable-Diffusion model gamma"):
            [reply async for reply in slot.invoke(LOAD_MODEL, LoadModel("gamma", ""))]
        await generated(slot, ImageJob("2", "x", model="folder/beta"))
        assert Freed(True) == await slot.ask(FREE_MEMORY, FreeMemory(system_ram=True))
    assert "folder\\beta.safetensors" == comfy.graphs()[0]["checkpoint"]["inputs"]["ckpt_name"]
    assert [{"unload_models": True, "free_memory": True}] == comfy.bodies("/free")


async def test_nodes_that_do_not_fit(comfy: FakeComfy) -> None:
    """Without a node that everything needs the backend is an error; without another one it has a feature less."""
    del comfy.info["LoraLoader"]
    comfy.info["ImageToMask"]["input"]["required"]["depth"] = ["INT"]
    async with network() as backends:
        slot = await connected(backends, comfy)
        assert {"comfyui", "init_image"} == set(slot.features)
        with pytest.raises(BackendError, match="its node ImageToMask needs an input depth"):
            await generated(slot, job(init_image=picture(), mask_image=picture()))
    comfy.info["KSampler"]["input"]["required"].pop("denoise")
    async with network() as backends:
        slot = await connected(backends, comfy)
        assert Status.ERRORED is slot.status
        assert "its node KSampler has no input denoise" in slot.reason


async def test_addresses(comfy: FakeComfy) -> None:
    """An address that the operator does not allow is never connected to, and an empty one leaves the backend disabled."""
    async with network(RemoteSettings(allowed_hosts=["10.0.0.0/8"])) as backends:
        slot = await connected(backends, comfy)
        assert Status.ERRORED is slot.status
        assert "allowed_hosts" in slot.reason
        empty = await backends.add("comfyui_api", {})
        await until(backends, lambda: empty.status is Status.DISABLED)
    assert 0 == comfy.connections
