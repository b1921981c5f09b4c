"""A ComfyUI server that says what it should not."""

import asyncio

import pytest
from fake_comfy import FakeComfy, painting
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from test_comfy import connected, generated, job

from swarmkernel_backend_api import BackendError, Status, WorkerLostError
from swarmkernel_backend_api.testing import fleet
from swarmkernel_backends_remote import RemoteSettings
from swarmkernel_backends_remote.addresses import Rules
from swarmkernel_backends_remote.comfy_backend import comfy_type
from swarmkernel_backends_remote.comfy_events import MAX_PREVIEW, Run
from swarmkernel_t2i_api import EncodedOutput

RULES = RemoteSettings(max_answer_mib=1, answer_seconds=1.0)


@pytest.fixture(name="comfy", scope="module")
def _comfy():
    with painting() as comfy:
        yield comfy


@pytest.fixture(autouse=True)
def _honest_again(comfy):
    yield
    comfy.instead.clear()


async def _long():
    for _ in range(64):
        yield b"[" * 0x10000
        await asyncio.sleep(0.001)


async def _slow():
    yield b"{"
    await asyncio.sleep(3)


ANSWERS = [
    (lambda: PlainTextResponse("<html>"), "not JSON"),
    (lambda: JSONResponse([1]), "not a JSON object"),
    (lambda: Response(b" " * (2 << 20)), "more than 1 MiB"),
    (lambda: StreamingResponse(_long()), "more than 1 MiB"),
    (lambda: RedirectResponse("http://169.254.169.254/"), "leads elsewhere"),
    (lambda: JSONResponse({}, headers={"Content-Encoding": "gzip"}), "compressed"),
    (lambda: PlainTextResponse("no", 403), "answered 403"),
]
LOST = [
    (lambda: PlainTextResponse("no", 502), "answered 502"),
    (lambda: StreamingResponse(_slow()), "did not answer within"),
]


@pytest.mark.parametrize(("answer", "told"), ANSWERS)
@pytest.mark.parametrize("path", ["/object_info/KSampler", "/history/"])
async def test_answers_that_are_none(comfy: FakeComfy, path: str, answer, told: str) -> None:
    """An answer that is none, too long or led astray is an error that says why: of the backend, or of the one job."""
    async with fleet([comfy_type(Rules(RULES))], max_init_attempts=0) as backends:
        at_start = path.startswith("/object_info")
        if at_start:
            comfy.instead[path] = answer()
        slot = await connected(backends, comfy, ConnectionAttemptTimeoutSeconds=1)
        assert (Status.ERRORED if at_start else Status.RUNNING) is slot.status
        if at_start:
            assert told in slot.reason
            return
        comfy.instead[path] = answer()
        with pytest.raises(BackendError, match=told) as caught:
            await generated(slot, job())
        assert not isinstance(caught.value, WorkerLostError)
        comfy.instead.clear()
        assert isinstance((await generated(slot, job()))[-1], EncodedOutput)


@pytest.mark.parametrize(("answer", "told"), LOST)
async def test_answers_that_do_not_come(comfy: FakeComfy, answer, told: str) -> None:
    """An answer that does not come, or comes from something before the server, loses the job, so that it may go elsewhere."""
    async with fleet([comfy_type(Rules(RULES))], max_init_attempts=0) as backends:
        slot = await connected(backends, comfy, ConnectionAttemptTimeoutSeconds=1)
        comfy.instead["/prompt"] = answer()
        with pytest.raises(WorkerLostError, match=told):
            await generated(slot, job())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"prompt_id": "../queue", "number": 1, "node_errors": {}}, "refused the graph: no reason"),
        ({"prompt_id": 5}, "refused the graph: no reason"),
        ({"error": "disk full", "node_errors": []}, "refused the graph: disk full"),
        ({"error": {"message": "bad"}, "node_errors": {"save": {"errors": 3}, "x": 4}}, r"node save \(\), $"),
    ],
)
async def test_odd_refusals(comfy: FakeComfy, answer, told: str) -> None:
    """An odd answer to a graph is a refusal, and an id that leads elsewhere is none."""
    async with fleet([comfy_type(Rules(RULES))], max_init_attempts=0) as backends:
        slot = await connected(backends, comfy)
        comfy.instead["/prompt"] = JSONResponse(answer)
        with pytest.raises(BackendError, match=told):
            await generated(slot, job())


async def test_a_job_that_is_forgotten(comfy: FakeComfy) -> None:
    """A job that is neither queued nor in the history is lost, so that it may be made again."""
    async with fleet([comfy_type(Rules(RULES))], max_init_attempts=0) as backends:
        slot = await connected(backends, comfy)
        comfy.instead["/prompt"] = JSONResponse({"prompt_id": "gone", "number": 1, "node_errors": {}})
        with pytest.raises(WorkerLostError, match="no longer knows of the job"):
            await generated(slot, job())


def test_previews_have_a_limit() -> None:
    """A preview that is too large, or is neither JPEG nor PNG, is left out."""
    run = Run("1")
    run.show(b"\xff\xd8\xff" + b"x" * MAX_PREVIEW)
    run.show(b"GIF89a")
    assert run.preview is None
    run.show(b"\xff\xd8\xffgood")
    assert b"\xff\xd8\xffgood" == run.preview
