"""What clients are told, without a network between."""

import asyncio

import pytest

from swarmkernel_backend_api import Claims
from swarmkernel_t2i_api.jobs.counters import Counters
from swarmkernel_t2i_api.jobs.events import (
    Accepted,
    Done,
    Events,
    Failed,
    Interrupted,
    LoadingModel,
    PictureMade,
    Started,
    Waiting,
)
from swarmkernel_t2i_api.jobs.job import Demand, Job, Picture
from swarmkernel_t2i_api.live.collect import Collector
from swarmkernel_t2i_api.live.outbox import Outbox
from swarmkernel_t2i_api.params.request import ImageRequest


def request_of(**values) -> ImageRequest:
    """A request with these parameters."""
    return ImageRequest("1001", "ann", "session", values, 512, 512)


def jobs_of(request) -> list[Job]:
    """Its jobs."""
    return [Job(request, Demand(), n, 0, n, 0.0) for n in range(request.images)]


def all_of(outbox) -> list:
    """Everything that an outbox holds."""
    return list(iter(outbox.next, None))


def test_outbox_order():
    """Frames come out in order; of those under one key the latest, in the place of the first."""
    outbox = Outbox(100)
    outbox.put({"n": 1})
    outbox.latest("a", lambda: {"a": 1})
    outbox.put({"n": 2})
    outbox.latest("a", lambda: {"a": 2})
    outbox.latest("b", lambda: None)
    assert 4 == len(outbox)
    assert [{"n": 1}, {"a": 2}, {"n": 2}] == all_of(outbox)
    assert 0 == len(outbox)


def test_outbox_spills():
    """Long texts beyond the limit wait in files, and come out whole and in order."""
    outbox = Outbox(1000)
    texts = [f"{number}" * 400 for number in range(9)]
    for number, text in enumerate(texts):
        outbox.put_long({"n": number, "image": text}, "image")
    assert 800 == outbox.held
    assert [{"n": n, "image": text} for n, text in enumerate(texts)] == all_of(outbox)
    assert 0 == outbox.held


def test_outbox_bounded():
    """A client that reads nothing costs the same after a hundred thousand previews as after one."""
    outbox = Outbox(1000)
    for number in range(100_000):
        outbox.latest("preview", lambda number=number: {"n": number})
    assert 1 == len(outbox)
    assert [{"n": 99_999}] == all_of(outbox)


async def test_outbox_waits():
    """Waiting ends when there is something to say, and otherwise when the time has passed."""
    outbox = Outbox(1000)
    assert not await outbox.wait(0.01)
    waiting = asyncio.create_task(outbox.wait(10))
    await asyncio.sleep(0)
    outbox.put({})
    assert await waiting
    assert await outbox.wait(0)


def test_listeners(caplog):
    """Listeners hear everything or one request; one that fails costs nobody else an event."""
    events, heard, ours = Events(), [], []
    one, other = request_of(), request_of()

    def bad(_event):
        raise RuntimeError("as asked")

    with events.listen(bad), events.listen(heard.append), events.listen(ours.append, one):
        events.publish(Done(other))
        events.publish(Done(one))
    events.publish(Done(one))
    assert [Done(other), Done(one)] == heard
    assert [Done(one)] == ours
    assert "as asked" in caplog.text


def test_counters():
    """The four counters follow a request from its jobs' waiting to their ends, and return to zero."""
    claims, request = Claims(), request_of(images=4)
    count = Counters(claims)
    first, second, third, fourth = jobs_of(request)

    def counts():
        return tuple(claims.counts("session").values())

    seen = []
    for event in (
        Accepted(request),
        *map(Waiting, (first, second, third, fourth)),
        LoadingModel(first),
        LoadingModel(first, done=True),
        Started(first, 0),
        Started(second, 0),
        PictureMade(first, Picture("", None)),
        Waiting(second),
        Failed(second, ValueError()),
        Interrupted(third, was_running=False, by_user=True),
        Interrupted(fourth, was_running=False, by_user=True),
        Done(request),
    ):
        count(event)
        seen.append(counts())
    # waiting_gens, loading_models, waiting_backends, live_gens
    assert [
        (4, 0, 0, 0), (4, 0, 1, 0), (4, 0, 2, 0), (4, 0, 3, 0), (4, 0, 4, 0), (4, 1, 4, 0), (4, 0, 4, 0),
        (4, 0, 3, 1), (4, 0, 2, 2), (3, 0, 2, 1), (3, 0, 3, 0), (2, 0, 2, 0), (1, 0, 1, 0), (0, 0, 0, 0), (0, 0, 0, 0),
    ] == seen  # fmt: skip


def test_collector_sorts():
    """Pictures are answered by index, whatever came first."""
    first, second, third = jobs_of(request_of(images=3))
    collector = Collector()
    for one, url in ((third, "c"), (first, "a"), (second, "b")):
        collector(PictureMade(one, Picture(url, None)))
    assert ["a", "b", "c"] == collector.outcome()


def test_collector_errors():
    """The first error is the answer, even if there are pictures; jobs that were stopped for it do not matter."""
    first, second, third = jobs_of(request_of(images=3))
    collector = Collector()
    collector(PictureMade(first, Picture("a", None)))
    collector(Failed(second, ValueError("first")))
    collector(Interrupted(third, was_running=True, by_user=False))
    collector(Failed(third, ValueError("second")))
    with pytest.raises(ValueError, match="first"):
        collector.outcome()


def test_collector_continues():
    """A request that goes on after errors answers what was made; if nothing was, the error."""
    first, second = jobs_of(request_of(images=2, continueaftererrors=True))
    collector = Collector()
    collector(Failed(first, ValueError("one")))
    with pytest.raises(ValueError, match="one"):
        collector.outcome()
    collector(PictureMade(second, Picture("b", None)))
    assert ["b"] == collector.outcome()
    collector(Interrupted(first, was_running=True, by_user=True))
    with pytest.raises(Exception, match="interrupted"):
        collector.outcome()


def test_outbox_cleared():
    """An outbox that is cleared holds nothing, and its files are closed."""
    outbox = Outbox(10)
    outbox.put_long({"image": "x" * 100}, "image")
    outbox.clear()
    assert 0 == len(outbox)
    assert outbox.next() is None


async def test_outbox_room():
    """Who waits for room goes on once enough frames were taken."""
    outbox = Outbox(10)
    for number in range(5):
        outbox.put({"n": number})
    waiting = asyncio.create_task(outbox.wait_for_room(3))
    await asyncio.sleep(0)
    outbox.next()
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.next()
    await asyncio.wait_for(waiting, 1)
