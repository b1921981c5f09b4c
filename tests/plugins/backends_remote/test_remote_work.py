"""Work on another server of this API, and what becomes of it when that server goes wrong."""

import asyncio
import json

import attrs
import pytest
from liar import BACKEND, Liar, http, lying, png, url
from test_liar import JOB, connected, generated, mirrored, network

from swarmkernel_backend_api import BackendError, Status, WorkerLostError
from swarmkernel_backend_api.testing import fleet, until
from swarmkernel_backends_remote import swarm_peer
from swarmkernel_backends_remote.addresses import Rules
from swarmkernel_backends_remote.swarm_backend import swarm_type
from swarmkernel_models_api import REFRESH_MODELS, ModelsRefreshed, RefreshModels
from swarmkernel_t2i_api import GENERATE, EncodedOutput, RawFrame

ENDLESS = [{"gen_progress": {"overall_percent": 0.5}}, None]


@pytest.fixture(name="liar")
async def _liar():
    async with lying() as liar:
        yield liar


def in_turn(*answers):
    """One answer after another, the last one again and again."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


async def true(condition, seconds: float = 15.0) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "answers",
    [
        [{"error": "slow", "error_id": "rate_limited"}],
        [{"error": "full", "error_id": "server_busy"}] * 3,
        [http(b"", "503 Busy")],
    ],
)
async def test_one_bad_look(liar: Liar, answers) -> None:
    """Looks that are refused, or one that finds nobody, end no work that runs on a socket of its own; new work waits."""
    liar.says["GenerateText2ImageWS"] = ENDLESS
    async with network() as backends:
        slot = await mirrored(backends, liar)
        work = slot.invoke(GENERATE, JOB)
        await anext(work)
        looks = len(liar.bodies("ListBackends"))
        liar.says["ListBackends"] = in_turn(*answers, {"3": BACKEND})
        pending = asyncio.ensure_future(anext(work))
        await until(backends, lambda: slot.status is Status.ERRORED)
        await until(backends, lambda: slot.status is Status.RUNNING)
        assert len(liar.bodies("ListBackends")) >= looks + 2
        assert not pending.done()
        pending.cancel()


async def test_three_losses(liar: Liar) -> None:
    """A server that answers looks and loses three pieces of work is left alone for a while, with that as the reason."""
    liar.says["GenerateText2ImageWS"] = http(b"", "503 Busy")
    async with network() as backends:
        slot = await mirrored(backends, liar)
        for _ in range(3):
            await until(backends, lambda: slot.status is Status.RUNNING)
            with pytest.raises(WorkerLostError):
                await generated(slot)
        assert "lost 3 times in short order" in slot.reason
        looks = len(liar.bodies("ListBackends"))
        await asyncio.sleep(2)
        assert (Status.ERRORED, looks) == (slot.status, len(liar.bodies("ListBackends")))


async def test_a_kind_that_is_refused(liar: Liar) -> None:
    """A server that does not tell of some models or of its parameters works with what it tells."""
    honest = liar.says["ListModels"]
    refused = {"error": "no such thing"}
    liar.says["ListModels"] = lambda body: refused if body["subtype"] == "Embedding" else honest(body)
    liar.says["ListT2IParams"] = http(b"", "404 Not Found")
    async with network() as backends:
        slot = await mirrored(backends, liar)
        assert {"alpha.safetensors"} == set(slot.models.by_kind["Stable-Diffusion"])
        assert ({}, {}) == (slot.models.by_kind["Embedding"], slot.options)


async def test_options(liar: Liar) -> None:
    """The choices that the server has for samplers are the child's."""
    async with network() as backends:
        slot = await mirrored(backends, liar)
        assert {"sampler": ("euler", "uni_pc")} == slot.options


async def test_another_server_at_the_address(liar: Liar) -> None:
    """A server that comes back is asked who it is now, for its sessions may outlive it."""
    async with network() as backends:
        slot = await mirrored(backends, liar)
        assert ("theirs",) == slot.via
        liar.says["GetNewSession"] = {"session_id": "t" * 40, "server_id": "new"}
        liar.says["ListBackends"] = in_turn(http(b"", "503 Busy"), {"3": BACKEND})
        await true(lambda: slot.via == ("new",))


async def test_a_server_with_another_id(liar: Liar) -> None:
    """A server whose list leads through what we took for itself has another id by now, and is asked for it."""
    async with network() as backends:
        slot = await mirrored(backends, liar)
        liar.says["GetNewSession"] = {"session_id": "t" * 40, "server_id": "new"}
        back = {**BACKEND, "id": -1, "type": "swarmswarmbackend", "via": ["third", "theirs"]}
        liar.says["ListBackends"] = {"3": BACKEND, "4": back}
        await true(lambda: slot.via == ("new",))


def over(via: list[str], origin: str) -> dict:
    """A backend that stands for another server's."""
    settings = {"remote_id": 3, "origin": origin}
    return {**BACKEND, "id": -1, "type": "swarmswarmbackend", "via": via, "settings": settings}


async def test_the_shortest_way(liar: Liar) -> None:
    """A backend that several connections lead to is there once, over the shortest way; over another if that one breaks."""
    async with lying() as other, network() as backends:
        other.says["GetNewSession"] = {"session_id": "o" * 40, "server_id": "other"}
        other.says["ListBackends"] = {"3": BACKEND}
        liar.says["ListBackends"] = {"3": BACKEND, "4": over(["other"], "other:3")}
        far = await connected(backends, liar)
        near = await connected(backends, other)

        def ways():
            return sorted(
                (slot.settings.origin, slot.parent.id, slot.via)
                for slot in backends
                if slot.id < 0 and slot.status is Status.RUNNING
            )

        short = [("other:3", near.id, ("other",)), ("theirs:3", far.id, ("theirs",))]
        await true(lambda: ways() == short)
        other.says["ListBackends"] = http(b"", "503 Busy")
        long = [("other:3", far.id, ("theirs", "other")), ("theirs:3", far.id, ("theirs",))]
        await true(lambda: ways() == long)


async def test_removed_while_it_works(liar: Liar) -> None:
    """Work of a backend that is removed and outlives the limit is ended here and there, so that it may go elsewhere."""
    liar.says["GenerateText2ImageWS"] = ENDLESS
    async with network(drain_seconds=0.3) as backends:
        slot = await mirrored(backends, liar)
        work = slot.invoke(GENERATE, JOB)
        await anext(work)
        pending = asyncio.ensure_future(anext(work))
        await backends.delete(slot.parent.id)
        with pytest.raises(WorkerLostError):
            async with asyncio.timeout(10):
                await pending
        await true(lambda: liar.bodies("InterruptAll"))


async def test_an_interrupt_that_does_not_get_through(liar: Liar) -> None:
    """An interrupt that the server does not answer is sent again until it does."""
    liar.says["GenerateText2ImageWS"] = ENDLESS
    liar.says["InterruptAll"] = in_turn(http(b"", "503 Busy"), {"success": True})
    async with network() as backends:
        slot = await mirrored(backends, liar)
        work = slot.invoke(GENERATE, JOB)
        await anext(work)
        await work.aclose()
        await true(lambda: len(liar.bodies("InterruptAll")) == 2)


@pytest.mark.parametrize("sockets", [True, False])
async def test_a_full_server(liar: Liar, sockets) -> None:
    """A picture for which the server has no place waits for one, and the server is not taken for lost."""
    full = {"error": "You have 16 open WebSockets", "error_id": "server_busy"}
    for route, several in (("GenerateText2ImageWS", [full]), ("GenerateText2Image", full)):
        liar.says[route] = in_turn(several, several, liar.says[route])
    async with network() as backends:
        slot = await mirrored(backends, liar, AllowWebsocket=sockets)
        work = asyncio.create_task(generated(slot))
        while not work.done():
            assert Status.RUNNING is slot.status
            await asyncio.sleep(0.05)
        assert isinstance((await work)[-1], EncodedOutput)


async def test_silence(liar: Liar, monkeypatch) -> None:
    """A server that accepts work and never says anything loses it."""
    monkeypatch.setattr(swarm_peer, "SILENT_SECONDS", 0.3)
    liar.says["GenerateText2ImageWS"] = [None]
    async with network() as backends:
        slot = await mirrored(backends, liar)
        with pytest.raises(WorkerLostError, match=r"said nothing for 0\.3 seconds"):
            await generated(slot)


async def test_cookies_are_not_kept(liar: Liar) -> None:
    """What a server wants to be remembered is not."""
    liar.says["ListModels"] = http(b'{"files": []}', "200 OK", "Set-Cookie: a=b; Path=/")
    async with network() as backends:
        await mirrored(backends, liar)
        await generated(next(iter(backends)))
    assert not [head for head in liar.heads if "cookie" in head.lower()]


async def test_a_server_that_refuses_at_first(liar: Liar) -> None:
    """A backend that was refused when it started is errored, even if it may be idle, and works when it no longer is."""
    liar.says["ListBackends"] = in_turn(http(b"no", "403 Forbidden"), {"3": BACKEND})
    async with network() as backends:
        slot = await connected(backends, liar, AllowIdle=True)
        assert (Status.ERRORED, True) == (slot.status, "answered 403" in slot.reason)
        await until(backends, lambda: slot.status is Status.RUNNING)


async def test_a_server_that_gets_ready(liar: Liar) -> None:
    """A server whose backends are still loading is not waited for: the connection shows as loading until one runs."""
    liar.says["ListBackends"] = {"3": {**BACKEND, "status": "loading"}}
    async with network() as backends:
        slot = await backends.add("swarmswarmbackend", {"Address": liar.address})
        await until(backends, lambda: slot.host is not None and slot.away is Status.LOADING)
        assert [slot] == list(backends)
        liar.says["ListBackends"] = {"3": BACKEND}
        await until(backends, lambda: slot.status is Status.RUNNING)
        assert 2 == len(list(backends))


async def test_pictures_among_other_parameters(liar: Liar) -> None:
    """A picture that another package's parameter holds goes along as a data URL."""
    job = attrs.evolve(JOB, extra={"stylepicture": png(), "styleweight": 0.5})
    async with network() as backends:
        await generated(await mirrored(backends, liar), job)
    (asked,) = liar.bodies("GenerateText2ImageWS")
    assert (url(png()), 0.5) == (asked["stylepicture"], asked["styleweight"])


@pytest.mark.parametrize("leads_back", [False, True])
async def test_refresh(liar: Liar, leads_back, monkeypatch) -> None:
    """A refresh here is passed on, and the lists are read again; one is not passed on to a server that would pass it back."""
    monkeypatch.setattr("swarmkernel_backends_remote.swarm_backend.SERVER_ID", "ours")
    back = over(["ours"], "ours:0")
    liar.says["ListBackends"] = {"3": BACKEND} | ({"4": back} if leads_back else {})
    async with network() as backends:
        slot = await mirrored(backends, liar)
        liar.says["ListModels"] = {"files": [{"name": "beta.safetensors"}]}
        liar.says["ListT2IParams"] = {"list": [{"id": "scheduler", "values": ["karras"]}]}
        assert ModelsRefreshed() == await slot.parent.ask(REFRESH_MODELS, RefreshModels())
        assert {"beta.safetensors"} == set(slot.models.by_kind["Stable-Diffusion"])
        assert {"scheduler": ("karras",)} == slot.options
    assert (0 if leads_back else 1) == len(liar.bodies("TriggerRefresh"))


async def test_a_refresh_that_is_refused(liar: Liar) -> None:
    """The lists are read again even if the server does not want to look for new models."""
    liar.says["TriggerRefresh"] = {"error": "no permission"}
    async with network() as backends:
        slot = await mirrored(backends, liar)
        looked = len(liar.bodies("ListModels"))
        assert ModelsRefreshed() == await slot.parent.ask(REFRESH_MODELS, RefreshModels())
    assert 2 * looked == len(liar.bodies("ListModels"))


async def drip():
    """A body in pieces of one byte."""
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(200):
        yield b"1\r\n \r\n" * 100


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda _: drip(), "too many pieces"),
        (http(json.dumps({str(n): BACKEND for n in range(30_000)}).encode()), "more than 4 MiB"),
    ],
)
async def test_answers_that_would_take_long(liar: Liar, answer, told) -> None:
    """An answer that takes long to read, by its size or by its pieces, is not read to its end."""
    liar.says["ListBackends"] = answer
    async with fleet([swarm_type(Rules())], max_init_attempts=0) as backends:
        slot = await connected(backends, liar)
        assert told in slot.reason


async def test_pictures_larger_than_asked(liar: Liar) -> None:
    """A picture counts if its sides are rounded up, and not if it is larger than that."""
    async with network() as backends:
        slot = await mirrored(backends, liar)
        liar.says["GenerateText2ImageWS"] = [{"image": url(png(64, 64))}, {"discard_indices": []}]
        assert isinstance((await generated(slot))[-1], EncodedOutput)
        liar.says["GenerateText2ImageWS"] = [{"image": url(png(80, 80))}, {"discard_indices": []}]
        with pytest.raises(BackendError, match="80x80 pixels"):
            await generated(slot)


@pytest.mark.parametrize("wanted", [True, False])
async def test_raw_frames(liar: Liar, wanted) -> None:
    """What the engine over there says is asked for and passed on if the client wants it, unless it is garbage."""
    odd = [
        5,
        {},
        {"type": "x"},
        {"type": 5, "data": ""},
        {"type": "x", "data": "!"},
        {"type": "x", "data": "A" * (3 << 20)},
    ]
    said = [*odd, {"type": "comfy_websocket", "data": "aGVsbG8="}]
    frames = [{"raw_backend_data": each} for each in said]
    liar.says["GenerateText2ImageWS"] = [*frames, *liar.says["GenerateText2ImageWS"]]
    async with fleet([swarm_type(Rules())]) as backends:
        slot = await mirrored(backends, liar)
        replies = await generated(slot, attrs.evolve(JOB, forward_raw=wanted))
    passed_on = [reply for reply in replies if isinstance(reply, RawFrame)]
    assert ([RawFrame("comfy_websocket", b"hello")] if wanted else []) == passed_on
    assert wanted == ("forwardrawbackenddata" in liar.bodies("GenerateText2ImageWS")[0])
