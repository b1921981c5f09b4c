"""When a server that is lost again and again is left alone, and how work that goes on elsewhere ends."""

import asyncio
import time

import pytest

from swarmkernel_backend_api import BackendError, WorkerLostError
from swarmkernel_backends_remote.errors import PeerLostError
from swarmkernel_backends_remote.messages import _Pace
from swarmkernel_backends_remote.presence import Breaker
from swarmkernel_backends_remote.relay import Relay, Relays

LOST = PeerLostError("gone")


@pytest.mark.parametrize(
    ("losses", "rests"),
    [((0, 1), False), ((0, 1, 2), True), ((0, 1, 29), True), ((0, 1, 31), False), ((0, 20, 40, 45), True)],
)
def test_three_losses_in_short_order(losses, rests):
    """Three losses within 30 seconds are followed by a rest of 15."""
    breaker = Breaker()
    for at in losses:
        breaker.fail(at)
    end = losses[-1]
    assert (15.0 if rests else 0.0) == breaker.rest(end)
    assert (1.0 if rests else 0.0) == breaker.rest(end + 14)
    assert 0.0 == breaker.rest(end + 15)


@pytest.mark.parametrize("went_well", [False, True])
def test_after_a_rest(went_well):
    """After a rest one more loss is enough, however long that takes, unless some work went well before."""
    breaker = Breaker()
    for at in (0, 1, 2):
        breaker.fail(at)
    if went_well:
        breaker.succeed()
    breaker.fail(100)
    assert (0.0 if went_well else 15.0) == breaker.rest(100)


async def endless():
    """Work that gives one thing and then nothing for long."""
    yield 1
    await asyncio.sleep(60)


async def test_aborted_before_it_begins() -> None:
    """Work that is ended in the same moment in which it begins ends."""
    relay = Relay(endless(), 60)
    relay.abort(LOST)
    async with asyncio.timeout(5):
        with pytest.raises(WorkerLostError, match="gone"):
            await anext(relay.replies())


async def test_ended_from_elsewhere() -> None:
    """All work of a backend can be ended at once, and has ended then."""
    relays = Relays()
    work = relays.follow(endless(), 60)
    assert 1 == await anext(work)
    await relays.end(LOST)
    async with asyncio.timeout(5):
        with pytest.raises(WorkerLostError, match="gone"):
            await anext(work)


async def impatient():
    """Work that runs into a limit of its own."""
    raise TimeoutError("a limit of its own")
    yield


@pytest.mark.parametrize(("source", "told"), [(endless, "more than 0.05 seconds"), (impatient, "of its own")])
async def test_time_limits(source, told) -> None:
    """Work that takes too long is lost; a limit that the work has itself is not mistaken for that."""
    work = Relays().follow(source(), 0.05)
    with pytest.raises((BackendError, TimeoutError), match=told):
        async for _ in work:
            pass


async def test_pace() -> None:
    """Of what comes faster than 500 messages a second the rest waits for the next second, and others get their turn."""
    pace, turns = _Pace(), 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    since = time.monotonic()
    for _ in range(499):
        await pace.keep()
    assert turns > 10
    assert time.monotonic() - since < 0.9
    await pace.keep()
    assert 0.95 < time.monotonic() - since < 5
    task.cancel()
