"""A server behind this one that says what it should not."""

import asyncio
import gzip
import ssl
import subprocess
from contextlib import aclosing

import attrs
import pytest
from liar import BACKEND, MODEL, Liar, http, lying, png, url

from swarmkernel import SERVER_ID
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
from swarmkernel_backends_remote.swarm_backend import swarm_type
from swarmkernel_models_api import KINDS, LOAD_MODEL, Loaded, LoadModel
from swarmkernel_t2i_api import GENERATE, EncodedOutput, EncodedPreview, ImageJob, LoraUse, Progress

JOB = ImageJob("1", "a cat", model="alpha.safetensors", width=8, height=8, steps=4)
RULES = RemoteSettings(max_answer_mib=1)


@pytest.fixture(name="liar")
async def _liar():
    async with lying() as liar:
        yield liar


def network(**limits):
    """Backends with impatient settings and small answers."""
    return fleet([swarm_type(Rules(RULES))], max_init_attempts=0, **limits)


async def connected(backends: Backends, liar: Liar, **settings: object) -> BackendSlot:
    """The liar as a backend, once it is what it will be."""
    slot = await backends.add("swarmswarmbackend", {"Address": liar.address, **settings})
    await until(backends, lambda: slot.status not in {Status.WAITING, Status.LOADING})
    return slot


async def mirrored(backends: Backends, liar: Liar, **settings: object) -> BackendSlot:
    """The child for the liar's backend, running."""
    slot = await connected(backends, liar, **settings)
    await until(backends, lambda: [s for s in backends if s.id < 0 and s.status is Status.RUNNING])
    assert slot.status is Status.RUNNING
    return next(iter(backends))


async def generated(slot: BackendSlot, job: ImageJob = JOB) -> list:
    """All that a job gives."""
    async with aclosing(slot.invoke(GENERATE, job)) as replies:
        return [reply async for reply in replies]


async def test_honest(liar: Liar) -> None:
    """What an honest one is asked is what the wire says, and its answers arrive."""
    async with network() as backends:
        slot = await mirrored(backends, liar)
        assert [Loaded("alpha")] == [r async for r in slot.invoke(LOAD_MODEL, LoadModel("alpha", "/x"))]
        assert Freed(True) == await slot.ask(FREE_MEMORY, FreeMemory(system_ram=True))
        (picture,) = await generated(slot)
    (asked,) = liar.bodies("GenerateText2ImageWS")
    assert isinstance(picture, EncodedOutput)
    assert {"images": 1, "donotsave": True, "exactbackendid": "3", "forwardswarmdata": True} == {
        key: asked[key] for key in ("images", "donotsave", "exactbackendid", "forwardswarmdata")
    }
    assert ("a cat", "alpha.safetensors", 0, 8) == tuple(
        asked[k] for k in ("prompt", "model", "seed", "width")
    )
    assert {"model": "alpha.safetensors", "backendId": 3} == {
        key: value for key, value in liar.bodies("SelectModel")[0].items() if key != "session_id"
    }
    assert ["3"] == [body["backend"] for body in liar.bodies("FreeBackendMemory")]
    assert {"session_id", "nonreal", "full_data"} == liar.bodies("ListBackends")[0].keys()
    asked = liar.bodies("ListModels")
    assert list(KINDS) == [body["subtype"] for body in asked]
    assert {("", 999, True)} == {(body["path"], body["depth"], body["allowRemote"]) for body in asked}
    assert (True, True) == tuple(liar.bodies("ListBackends")[0][key] for key in ("nonreal", "full_data"))


async def test_media_and_loras(liar: Liar) -> None:
    """What a picture starts from goes along as data URLs, LoRAs as lists."""
    loras = (LoraUse("one", weight=0.5), LoraUse("two/three"))
    job = attrs.evolve(
        JOB, init_image=png(), init_creativity=0.25, mask_image=b"GIF89a", mask_blur=4, loras=loras
    )
    async with network() as backends:
        await generated(await mirrored(backends, liar), job)
        await generated(next(iter(backends)))
    asked, plain = liar.bodies("GenerateText2ImageWS")
    assert {
        "initimage": url(png()),
        "initimagecreativity": 0.25,
        "maskimage": url(b"GIF89a", "image/gif"),
        "maskblur": 4,
        "loras": ["one", "two/three"],
        "loraweights": [0.5, 1.0],
    } == {key: value for key, value in asked.items() if key not in plain}


async def test_other_spellings(liar: Liar) -> None:
    """A server that calls its models without an ending is asked for them so."""
    liar.says["ListModels"] = {"files": [{**MODEL, "name": "alpha"}]}
    async with network() as backends:
        await generated(await mirrored(backends, liar))
    assert ["alpha"] == [body["model"] for body in liar.bodies("GenerateText2ImageWS")]


async def forever():
    """A body that never ends."""
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + b"[" * 0x10000 + b"\r\n"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http(b"<html>hello</html>"), "not JSON"),
        (http(b'{"3": {"id": 3'), "not JSON"),
        (http(b"[1, 2]"), "not a JSON object"),
        (http(b"null"), "not a JSON object"),
        (http(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not JSON"),
        (http(b'{"a":' + b"[" * 1_000_001), "too many values"),
        (http(b"{}" + b" " * (2 << 20)), "more than 1 MiB"),
        (lambda _: forever(), "more than 1 MiB"),
        (http(b"", "302 Found", "Location: http://169.254.169.254/"), "leads elsewhere"),
        (http(b"", "500 Oops"), "answered 500"),
        (http(b"what", "404 Not Found"), "answered 404"),
        (http(gzip.compress(b"{}"), "200 OK", "Content-Encoding: gzip"), "compressed"),
        (b"\x00\x01garbage\r\n\r\n", "broke the connection"),
        (
            http(b'{"error": "no\\u0000 \\u001b[31mway\\n", "error_id": "UPPER"}'),
            r"refused ListBackends: no \[31mway",
        ),
    ],
)
async def test_answers_that_are_none(liar: Liar, answer, told) -> None:
    """An answer that is none, too long or led astray makes the backend errored, and the reason says why."""
    liar.says["ListBackends"] = answer
    async with network() as backends:
        slot = await connected(backends, liar)
        assert (Status.ERRORED, None) == (slot.status, next((s for s in backends if s.id < 0), None))
        import re

        assert re.search(told, slot.reason), slot.reason


def frames(*said):
    """Frames of a job, and then the end."""
    return [*said, {"discard_indices": []}]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (frames({"image": url(b"<svg onload=alert(1)>", "image/svg+xml")}), "cannot be read"),
        (frames({"image": url(png()[:50])}), "cannot be read"),
        (frames({"image": url(png(300, 300))}), "300x300 pixels"),
        (frames({"image": "View/local/raw/a.png"}), "no data URL"),
        (frames({"image": "data:image/png;base64,!!!"}), "not base64"),
        (frames({"image": 5}), "no data URL"),
        (frames(), "made no picture"),
        ([], "made no picture"),
        ([b"{{{"], "not JSON"),
        ([b"[]"], "not a JSON object"),
        ([{"error": "the canvas is full", "error_id": "canvas_full"}], "refused .*: the canvas is full"),
    ],
)
@pytest.mark.parametrize("sockets", [True, False])
async def test_pictures_that_are_none(liar: Liar, said, told, sockets) -> None:
    """A picture that is none fails its job with the reason; the backend goes on, and the next picture is made."""
    good = dict(liar.says)
    liar.says["GenerateText2ImageWS"] = said
    image = next((frame["image"] for frame in said if isinstance(frame, dict) and "image" in frame), None)
    made = {"images": [image] if image else []}
    first = said[0] if said else made
    liar.says["GenerateText2Image"] = (
        http(first) if isinstance(first, bytes) else first if "error" in first else made
    )
    async with network() as backends:
        slot = await mirrored(backends, liar, AllowWebsocket=sockets)
        with pytest.raises(BackendError, match=told):
            await generated(slot)
        liar.says.update(good)
        assert isinstance((await generated(slot))[-1], EncodedOutput)
        assert slot.status is Status.RUNNING


async def test_a_huge_frame(liar: Liar) -> None:
    """A frame that is too large loses the connection, and not the memory."""
    liar.says["GenerateText2ImageWS"] = [{"image": "x" * (2 << 20)}]
    async with network() as backends:
        slot = await mirrored(backends, liar)
        with pytest.raises(WorkerLostError, match="broke the connection"):
            await generated(slot)


async def test_odd_progress(liar: Liar) -> None:
    """Progress stays between none and all, and a preview that is no picture is left out."""
    odd = [-5, 0.5, 7, "x", None, True, {"a": 1}]
    previews = [url(png()), url(b"nothing"), "View/x.png", 4, "data:image/jpeg;base64,AAAA"]
    progress = [{"gen_progress": {"overall_percent": each}} for each in odd]
    progress += [{"gen_progress": {"preview": each}} for each in previews]
    liar.says["GenerateText2ImageWS"] = [{"gen_progress": 3}, *progress, *frames({"image": url(png())})]
    async with network() as backends:
        replies = await generated(await mirrored(backends, liar))
    assert [0, 2, 4, 0, 0, 0, 0] == [r.step for r in replies if isinstance(r, Progress)][: len(odd)]
    assert 1 == len([r for r in replies if isinstance(r, EncodedPreview)])


async def test_odd_backends(liar: Liar) -> None:
    """Of the backends that the server tells of only those are taken that make sense, run, and do not lead back here."""
    liar.says["ListBackends"] = {
        "3": BACKEND,
        "a": "text",
        "b": {**BACKEND, "id": "4"},
        "c": {**BACKEND, "id": 5, "status": "errored"},
        "d": {**BACKEND, "id": 6, "via": ["x", SERVER_ID]},
        "e": {**BACKEND, "id": 7, "type": "swarmswarmbackend", "can_load_models": False},
        "f": {**BACKEND, "id": 8, "max_usages": 10**9, "features": [1, "ok"], "title": ["no"]},
    }
    async with network() as backends:
        await mirrored(backends, liar)
        await until(backends, lambda: len(list(backends)) == 3)
        mirrors = [slot for slot in backends if slot.id < 0]
    assert {3, 8} == {slot.settings.remote_id for slot in mirrors}
    silent = {"init_image", "mask_image", "lora"}
    assert {2: {"brush", *silent}, 0: {"ok", *silent}} == {
        slot.max_usages: set(slot.features) for slot in mirrors
    }


async def test_forwarding(liar: Liar) -> None:
    """Without AllowForwarding the server's own remote backends and models are not asked for."""
    liar.says["ListBackends"] = {
        "3": BACKEND,
        "4": {**BACKEND, "id": -1, "type": "swarmswarmbackend", "via": ["third"]},
    }
    async with network() as backends:
        await mirrored(backends, liar, AllowForwarding=False)
        assert [3] == [slot.settings.remote_id for slot in backends if slot.id < 0]
        await mirrored(backends, liar)
        assert {False, True} == {body["allowRemote"] for body in liar.bodies("ListModels")}
        assert {("theirs",), ("theirs", "third")} == {slot.via for slot in backends if slot.id < 0}


async def test_sessions_that_end(liar: Liar) -> None:
    """A session that the server has forgotten is replaced, once; a server that knows none is no endless affair."""
    gone = {"error": "who", "error_id": "invalid_session_id"}
    known = honest_once(liar)
    liar.says["GenerateText2ImageWS"] = lambda body: known(body) or [gone]
    async with network() as backends:
        slot = await mirrored(backends, liar)
        assert isinstance((await generated(slot))[-1], EncodedOutput)
        assert 2 == len(liar.bodies("GenerateText2ImageWS"))
        liar.says["SelectModel"] = gone
        with pytest.raises(BackendError, match="who"):
            await slot.ask(LOAD_MODEL, LoadModel("alpha", "/x"))
        assert 2 == len(liar.bodies("SelectModel"))


def honest_once(liar: Liar):
    """Nothing at first, then what an honest server says."""
    answers = iter([None])
    frames = liar.says["GenerateText2ImageWS"]
    return lambda _: next(answers, frames)


async def test_secrets_stay_secret(liar: Liar, caplog) -> None:
    """What the headers hold reaches the server, and no error, log or list, even if the server repeats it."""
    liar.says["ListBackends"] = {"error": "Bearer hush-hush and hush-hush and k-e-y are wrong"}
    async with network() as backends:
        slot = await connected(
            backends, liar, AuthorizationHeader="Bearer hush-hush", OtherHeaders="X-Key: k-e-y\nX-Other: 1"
        )
        assert "(hidden) and (hidden) and (hidden) are wrong" in slot.reason
        assert Status.ERRORED is slot.status
    assert "Authorization: Bearer hush-hush" in liar.heads[0]
    assert "X-Other: 1" in liar.heads[0]
    for secret in ("hush-hush", "k-e-y"):
        assert secret not in caplog.text


async def test_names_are_looked_up_here(liar: Liar) -> None:
    """A connection goes to the address that was checked; the name goes along as the host that is meant."""
    host = liar.address.replace("http://127.0.0.1", "localhost")
    async with network() as backends:
        await generated(await mirrored(backends, liar, Address=f"http://{host}"))
    assert {host} == {head.partition("Host: ")[2].split()[0] for head in liar.heads}


@pytest.fixture(name="certified")
async def _certified(tmp_path, monkeypatch):
    """A server with a certificate for localhost, which is trusted."""
    files = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    request = (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    command = ["openssl", *request.split(), "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", files[0])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    async with lying(context) as liar:
        yield liar


@pytest.mark.parametrize("sockets", [True, False])
async def test_https(certified: Liar, sockets) -> None:
    """Over TLS all is as without it, and the certificate must be for the name in the address."""
    named = certified.address.replace("127.0.0.1", "localhost")
    async with network() as backends:
        slot = await mirrored(backends, certified, Address=named, AllowWebsocket=sockets)
        assert isinstance((await generated(slot))[-1], EncodedOutput)
        other = await connected(backends, certified)
        assert (Status.ERRORED, True) == (other.status, "no certificate that is trusted" in other.reason)


async def test_interrupt(liar: Liar) -> None:
    """Who stops listening interrupts the session of that very job over there."""
    sessions = iter("abcdef")
    liar.says["GetNewSession"] = lambda _: {"session_id": next(sessions), "server_id": "theirs"}
    liar.says["GenerateText2ImageWS"] = [{"gen_progress": {"overall_percent": 0.5}}, None]
    async with network() as backends:
        slot = await mirrored(backends, liar)
        first, second = (slot.invoke(GENERATE, JOB) for _ in range(2))
        await anext(first), await anext(second)
        sessions_of = [body["session_id"] for body in liar.bodies("GenerateText2ImageWS")]
        assert 2 == len(set(sessions_of))
        await first.aclose()
        await until(backends, lambda: liar.bodies("InterruptAll"))
        assert [{"session_id": sessions_of[0], "other_sessions": False}] == liar.bodies("InterruptAll")
        await second.aclose()


async def test_a_server_that_vanishes(liar: Liar) -> None:
    """Work on a server that stops answering is lost, so that it may be done elsewhere, and its children are away."""
    liar.says["GenerateText2ImageWS"] = [{"gen_progress": {}}, None]
    async with network() as backends:
        slot = await mirrored(backends, liar)
        work = slot.invoke(GENERATE, JOB)
        await anext(work)
        liar.says["ListBackends"] = http(b"", "503 Busy")
        with pytest.raises(WorkerLostError, match="answered 503"):
            async with asyncio.timeout(15):
                await anext(work)
        assert (Status.ERRORED, True) == (slot.status, slot.restarting)
        liar.says["ListBackends"] = {"3": BACKEND}
        await until(backends, lambda: slot.status is Status.RUNNING)


@pytest.mark.parametrize("sockets", [True, False])
async def test_redirects_are_not_followed(liar: Liar, sockets) -> None:
    """A server that leads elsewhere fails the job, and nobody there is asked anything."""
    async with lying() as elsewhere, network() as backends:
        slot = await mirrored(backends, liar, AllowWebsocket=sockets, AuthorizationHeader="Bearer x")
        for route in ("GenerateText2ImageWS", "GenerateText2Image"):
            liar.says[route] = http(b"", "307 There", f"Location: {elsewhere.address}/API/{route}")
        with pytest.raises(BackendError, match=r"leads elsewhere|answered 307"):
            await generated(slot)
        assert [] == elsewhere.heads


async def slowly():
    """A body that comes a byte at a time."""
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    while True:
        await asyncio.sleep(0.05)
        yield b" "


async def test_a_slow_answer(liar: Liar) -> None:
    """An answer that comes too slowly is given up, however steadily it comes."""
    liar.says["ListBackends"] = lambda _: slowly()
    rules = RemoteSettings(answer_seconds=0.3)
    async with asyncio.timeout(10), fleet([swarm_type(Rules(rules))], max_init_attempts=0) as backends:
        slot = await connected(backends, liar, ConnectionAttemptTimeoutSeconds=1)
        assert (Status.ERRORED, "did not answer within 1.3 seconds") == (slot.status, slot.reason[-34:-1])
