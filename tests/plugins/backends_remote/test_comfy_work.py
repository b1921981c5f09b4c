"""Work on a ComfyUI server that goes wrong, is old, or sits behind something that is in the way."""

import asyncio
import io
import json
import re
import subprocess

import pytest
from fake_comfy import FakeComfy, message, painting, picture
from liar import lying
from PIL import Image
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.websockets import WebSocket
from test_comfy import connected, generated, job, network, true

from swarmkernel_backend_api import BackendError, Status, WorkerLostError
from swarmkernel_backend_api.testing import fleet, until
from swarmkernel_backends_remote import RemoteSettings
from swarmkernel_backends_remote.addresses import Rules
from swarmkernel_backends_remote.comfy_backend import comfy_type
from swarmkernel_models_api import REFRESH_MODELS, ModelsRefreshed, RefreshModels
from swarmkernel_t2i_api import EncodedOutput, RawFrame


@pytest.fixture(name="comfy")
def _comfy():
    with painting() as comfy:
        yield comfy


@pytest.mark.parametrize("at_start", [True, False])
async def test_secrets_stay_secret(comfy: FakeComfy, caplog, at_start: bool) -> None:
    """What our headers hold is in no error and no log, even if something before ComfyUI repeats it."""
    comfy.info["KSampler"]["input"]["required"] |= {"hush-hush": ["INT"]} if at_start else {}
    async with network() as backends:
        slot = await connected(backends, comfy, AuthorizationHeader="Bearer hush-hush")
        if at_start:
            assert "needs an input (hidden)" in slot.reason
        else:
            comfy.instead["/prompt"] = JSONResponse({"error": "Bearer hush-hush is wrong"}, 401)
            with pytest.raises(BackendError, match=r"refused the graph: \(hidden\) is wrong"):
                await generated(slot, job())
    assert "hush-hush" not in caplog.text


async def test_odd_events(comfy: FakeComfy) -> None:
    """Events whose type or node is anything at all are left alone, and the socket stays open."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        running = asyncio.create_task(generated(slot, job("slow", steps=8)))
        await true(lambda: comfy.ran == ["slow"])
        for said in (
            {"type": ["x"], "data": {}},
            {"type": {"a": 1}, "data": {"prompt_id": ["x"]}},
            {"type": "progress", "data": {"node": ["x"], "value": {}, "max": []}},
            {"type": "progress_state", "data": {"nodes": {"sampler": 3}}},
            {"type": "executed", "data": {"node": {"a": 1}}},
        ):
            sending = comfy._tell_all(json.dumps(said))
            asyncio.run_coroutine_threadsafe(sending, comfy._loop).result()
        assert isinstance((await running)[-1], EncodedOutput)
    assert 1 == comfy.connections


async def test_refused_by_what_is_before_it(comfy: FakeComfy) -> None:
    """Something before ComfyUI that refuses is told as that, and when it no longer does the backend works by itself."""
    comfy.instead["/object_info"] = JSONResponse({"error": "Unauthorized"}, 401)
    async with network() as backends:
        slot = await connected(backends, comfy, AllowIdle=True)
        assert (Status.ERRORED, True) == (slot.status, "answered 401 to /object_info/" in slot.reason)
        comfy.instead.clear()
        await until(backends, lambda: slot.status is Status.RUNNING)
        comfy.instead["/history/"] = JSONResponse({"error": "Unauthorized"}, 401)
        with pytest.raises(BackendError, match="answered 401 to /history/") as caught:
            await generated(slot, job())
        assert not isinstance(caught.value, WorkerLostError)


async def test_removed_while_it_works(comfy: FakeComfy) -> None:
    """Work of a backend that is removed and outlives the limit is ended here and there, so that it may go elsewhere."""
    async with fleet([comfy_type(Rules())], drain_seconds=0.3) as backends:
        slot = await connected(backends, comfy)
        running = asyncio.create_task(generated(slot, job("hang")))
        await true(lambda: comfy.ran == ["hang"])
        await backends.delete(slot.id)
        with pytest.raises(WorkerLostError):
            await running
        await true(lambda: comfy._running is None)


async def test_an_interrupt_that_does_not_get_through(comfy: FakeComfy) -> None:
    """An interrupt that does not get through is sent again, whether or not the socket breaks."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        running = asyncio.create_task(generated(slot, job("hang")))
        await true(lambda: comfy.ran == ["hang"])
        comfy.instead["/queue"] = PlainTextResponse("slow", 504)
        running.cancel()
        await asyncio.sleep(0.5)
        assert [] == comfy.bodies("/interrupt")
        comfy.instead.clear()
        await true(lambda: comfy._running is None)
    assert 1 == comfy.connections


async def test_a_graph_that_arrives_late(comfy: FakeComfy) -> None:
    """A job whose answer never came is looked for, and ended when it turns up."""

    async def late(scope, receive, send):
        await asyncio.sleep(2.5)
        await comfy.app(scope, receive, send)

    async with fleet([comfy_type(Rules(RemoteSettings(answer_seconds=0.5)))]) as backends:
        slot = await connected(backends, comfy, ConnectionAttemptTimeoutSeconds=1)
        comfy.instead["/prompt"] = late
        with pytest.raises(WorkerLostError, match="did not answer"):
            await generated(slot, job("hang"))
        await true(lambda: comfy.ran == ["hang"])
        await true(lambda: comfy._running is None)


async def test_sockets_that_do_not_last(comfy: FakeComfy) -> None:
    """A server whose sockets close at once is opened again three times, and then is away and left alone."""
    tries = []

    async def brief(scope, receive, send):
        ws = WebSocket(scope, receive, send)
        await ws.accept()
        tries.append(await ws.receive_text())
        await ws.close(1000)

    async with network() as backends:
        slot = await backends.add("comfyui_api", {"Address": comfy.address})
        comfy.instead["/ws"] = brief
        await until(backends, lambda: slot.status is Status.ERRORED)
        assert "left alone for 15 seconds" in slot.reason
        await asyncio.sleep(2)
        assert 3 == len(tries)


async def test_work_that_is_lost(comfy: FakeComfy) -> None:
    """A server that loses work is away until its lists can be read again, which is tried at once."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        comfy.instead["/prompt"] = PlainTextResponse("no", 502)
        shown = []
        with pytest.raises(WorkerLostError):
            await generated(slot, job())
        shown.append(slot.status)
        comfy.instead.clear()
        await until(backends, lambda: slot.status is Status.RUNNING)
        assert [Status.ERRORED] == shown
        assert isinstance((await generated(slot, job()))[-1], EncodedOutput)
    assert 1 == comfy.connections


async def test_choices_and_refresh(comfy: FakeComfy) -> None:
    """Samplers and schedulers are the server's own, a name is kept as it is, and a refresh reads everything again."""
    comfy.info["KSampler"]["input"]["required"]["sampler_name"] = [["euler", "uni_pc"]]
    odd = " two  spaces and\u00a0more.safetensors"
    async with network() as backends:
        slot = await connected(backends, comfy)
        assert {"sampler": ("euler", "uni_pc"), "scheduler": ("normal", "karras")} == slot.options
        comfy.info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] = [[odd, "bad\n", "", 5]]
        comfy.info["KSampler"]["input"]["required"]["sampler_name"] = [["ipndm"]]
        assert ModelsRefreshed() == await slot.ask(REFRESH_MODELS, RefreshModels())
        assert (("ipndm",), [odd]) == (
            slot.options["sampler"],
            list(slot.models.by_kind["Stable-Diffusion"]),
        )


async def test_masks(comfy: FakeComfy) -> None:
    """A mask is made one of brightness before it goes over, and is stretched as the init image is."""
    mask = io.BytesIO()
    Image.new("RGB", (20, 10), (0, 255, 0)).save(mask, "PNG")
    async with network() as backends:
        slot = await connected(backends, comfy)
        await generated(slot, job(init_image=picture(), mask_image=mask.getvalue()))
    (graph,) = comfy.graphs()
    assert ["disabled", "disabled"] == [
        graph[node]["inputs"]["crop"] for node in ("init_scale", "mask_scale")
    ]
    sent = re.search(rb"\x89PNG.*IEND", comfy.bodies("/upload/image")[1], re.DOTALL)[0] + b"\xaeB`\x82"
    made = Image.open(io.BytesIO(sent))
    assert ("L", (20, 10), 150) == (made.mode, made.size, made.getpixel((0, 0)))


async def test_a_certificate_that_is_not_trusted(tmp_path) -> None:
    """A server whose certificate nobody trusts is told as that."""
    import ssl

    files = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command = ["openssl", *request.split(), "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    async with lying(context) as liar, network() as backends:
        slot = await backends.add("comfyui_api", {"Address": liar.address})
        await until(backends, lambda: slot.status is Status.ERRORED)
        assert "no certificate that is trusted" in slot.reason


async def test_events_of_others(comfy: FakeComfy) -> None:
    """That another client's job was interrupted or failed, which is told to all, is nothing to ours."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        running = asyncio.create_task(generated(slot, job("slow", steps=8)))
        await true(lambda: comfy.ran == ["slow"])
        for kind in ("execution_interrupted", "execution_error"):
            told = comfy._tell_all(message(kind, prompt_id="another", node_id="1", executed=[]))
            asyncio.run_coroutine_threadsafe(told, comfy._loop).result()
        assert isinstance((await running)[-1], EncodedOutput)


@pytest.mark.parametrize("wanted", [True, False])
async def test_raw_frames(comfy: FakeComfy, wanted: bool) -> None:
    """What ComfyUI says of a job is passed on as it came if the client wants it: events, previews, and nothing of others."""
    async with network() as backends:
        slot = await connected(backends, comfy)
        replies = await generated(slot, job("garbage cat", forward_raw=wanted))
        replies += await generated(slot, job("a cat", forward_raw=wanted))
    raw = [reply for reply in replies if isinstance(reply, RawFrame)]
    kinds = [json.loads(each.data).get("type") for each in raw if each.data.startswith(b"{")]
    assert wanted == ({"executing", "progress", "executed", "execution_success"} <= set(kinds))
    assert wanted == any(each.data.startswith(b"\0\0\0\4") for each in raw)
    assert not {"status", "crystools.monitor", "execution_error", None} & set(kinds)
    assert {"comfy_websocket"} >= {each.kind for each in raw}
