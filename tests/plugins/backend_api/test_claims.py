"""Live counters per session."""

import asyncio

import pytest

from swarmkernel_backend_api import Claims

ZEROS = {"waiting_gens": 0, "loading_models": 0, "waiting_backends": 0, "live_gens": 0}


def test_claims_add_up_per_session() -> None:
    """A session's counters are the sum of its claims, and other sessions' stay apart."""
    claims = Claims()
    first, _ = claims.open("a", waiting_gens=3), claims.open("a", waiting_gens=1)
    claims.open("b", loading_models=2)
    first.change(waiting_gens=-1, live_gens=1)
    assert ZEROS | {"waiting_gens": 3, "live_gens": 1} == claims.counts("a")
    assert ZEROS | {"loading_models": 2} == claims.counts("b")
    assert 3 == claims.total("waiting_gens")


def test_closing_gives_back_the_rest() -> None:
    """A closed claim leaves nothing behind, whatever happened before, and closing twice is harmless."""
    claims = Claims()
    claim = claims.open("a", waiting_gens=3)
    claim.change(waiting_gens=-2, live_gens=2)
    claim.close()
    claim.close()
    assert ZEROS == claims.counts("a")
    assert 0 == claims.total("waiting_gens")


def test_a_failing_request_gives_back_its_claim() -> None:
    """Leaving a claim's block with an error gives back what it held."""
    claims = Claims()
    with pytest.raises(RuntimeError), claims.open("a", waiting_gens=1):
        raise RuntimeError
    assert ZEROS == claims.counts("a")


def test_a_wrong_counter_is_an_error() -> None:
    """A misspelt counter is refused, and counts nothing."""
    claims = Claims()
    with pytest.raises(KeyError):
        claims.open("a", waiting=1)
    assert ZEROS == claims.counts("a")


async def test_listeners_hear_of_their_session_only() -> None:
    """A listener's event is set at each change of its own session, and no longer once it has left."""
    claims = Claims()
    with claims.listen("a") as event:
        claims.open("b", live_gens=1)
        assert not event.is_set()
        claim = claims.open("a", live_gens=1)
        async with asyncio.timeout(1):
            await event.wait()
        event.clear()
        claim.change(live_gens=0)
        assert not event.is_set()
    claim.close()
    assert not event.is_set()
