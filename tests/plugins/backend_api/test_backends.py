"""The life of backends: states, ids, edits, drains, what the store keeps."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import attrs
import pytest

from swarmkernel import MemoryStore
from swarmkernel_backend_api import (
    BackendApiSettings,
    BackendError,
    Backends,
    BackendSlot,
    Claims,
    NewBackend,
    SettingsError,
    Status,
    UnknownBackendError,
    WorkerLostError,
)
from swarmkernel_backend_api.service import add_defaults, free_when_idle
from swarmkernel_backend_api.testing import SYNTHETIC, WORK, Task, fleet, until

SLOW = attrs.evolve(SYNTHETIC, id="slow", fast=False)


async def settled(backends: Backends, slot: BackendSlot) -> Status:
    await until(backends, lambda: slot.status not in {Status.WAITING, Status.LOADING})
    return slot.status


async def added(backends: Backends, kind: str = "synthetic", **settings: Any) -> BackendSlot:
    slot = await backends.add(kind, settings)
    await settled(backends, slot)
    return slot


async def job(slot: BackendSlot, seconds: float) -> Any:
    with slot.claim():
        async with aclosing(slot.invoke(WORK, Task(steps=1, seconds=seconds))) as replies:
            return [reply async for reply in replies][-1]


async def test_ids_count_up_and_are_not_reused() -> None:
    """The first backend is 0, the next 1, and after deleting 1 the next is 2."""
    async with fleet([SYNTHETIC]) as backends:
        for expected in (0, 1):
            assert expected == (await backends.add("synthetic")).id
        assert await backends.delete(1)
        assert 2 == (await backends.add("synthetic")).id
        assert not await backends.delete(1)


async def test_an_unknown_type_cannot_be_added() -> None:
    """Adding a type that no package declares is an error, and nothing is added."""
    async with fleet([SYNTHETIC]) as backends:
        with pytest.raises(UnknownBackendError, match="'nonsense'"):
            await backends.add("nonsense")
        assert [] == list(backends)


async def test_a_backend_goes_from_waiting_over_loading_to_running() -> None:
    """A new backend shows waiting, then loading, then running, and then its abilities and features."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await backends.add("synthetic", {"start_seconds": 0.1})
        assert Status.WAITING is slot.status
        assert not slot.usable
        await until(backends, lambda: slot.status is Status.LOADING)
        assert Status.RUNNING is await settled(backends, slot)
        assert slot.usable
        assert {"start", "stop", "work", "free_memory"} <= slot.abilities
        assert not slot.can_load_models
        assert ["synthetic", "synthetic_live"] == slot.features


async def test_a_failing_start_is_tried_again_and_given_up(tmp_path: Path) -> None:
    """A start that raises is tried again so often as the setting says, then the backend is errored with the reason."""
    marker = tmp_path / "starts"
    async with fleet([SYNTHETIC], max_init_attempts=2) as backends:
        slot = await added(backends, verb="raise", marker=str(marker))
        await until(backends, lambda: slot.status is Status.ERRORED)
        assert "RuntimeError: as asked" == slot.reason
        assert 3 == len(marker.read_text().splitlines())
        await backends.restart([slot])
        await until(backends, lambda: slot.status is Status.ERRORED)
        assert 6 == len(marker.read_text().splitlines())


@pytest.mark.parametrize("verb", ["exit", "segv"])
async def test_a_crash_at_the_start_is_a_failed_start(verb: str) -> None:
    """A worker that dies while it starts counts as a failed start."""
    async with fleet([SYNTHETIC], max_init_attempts=0) as backends:
        slot = await added(backends, verb=verb)
        assert Status.ERRORED is slot.status
        assert "The worker of" in slot.reason


@pytest.mark.parametrize("settings", [{"start_seconds": 60}, {"verb": "hang_py"}])
async def test_a_start_that_never_ends_is_ended(
    settings: dict[str, Any], own_children: Callable[[], list[int]]
) -> None:
    """A start that takes longer than the limit is a failed one, and its process is gone."""
    async with fleet([SYNTHETIC], max_init_attempts=0, start_seconds=1.0, stop_seconds=0.2) as backends:
        slot = await added(backends, **settings)
        assert Status.ERRORED is slot.status
        assert "did not start within 1 s" == slot.reason
        assert [] == own_children()


async def test_a_backend_without_a_needed_setting_is_disabled() -> None:
    """A backend that says it is not configured shows as disabled although it is switched on, and an edit brings it up."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await added(backends, needs="")
        assert (Status.DISABLED, True) == (slot.status, slot.enabled)
        await backends.edit(slot.id, {"needs": "this"})
        assert Status.RUNNING is await settled(backends, slot)


async def test_a_missing_class_is_an_error_of_its_backend_only() -> None:
    """A type whose class cannot be imported is errored, and the server never imported it."""
    broken = attrs.evolve(SYNTHETIC, id="broken", make="no_such_module:Nothing")
    async with fleet([SYNTHETIC, broken], max_init_attempts=0) as backends:
        slot, good = await added(backends, "broken"), await added(backends)
        assert [Status.ERRORED, Status.RUNNING] == [slot.status, good.status]
        assert "no_such_module" in slot.reason


async def test_slow_types_start_a_few_at_a_time() -> None:
    """Of four slow backends two load at once, and a hanging one does not hold up the others."""
    async with fleet([SLOW], parallel_starts=2) as backends:
        hanging = await backends.add("slow", {"start_seconds": 60})
        slots = [await backends.add("slow", {"start_seconds": 0.2}) for _ in range(3)]
        most = 0
        while not all(s.status is Status.RUNNING for s in slots):
            most = max(most, [s.status for s in backends].count(Status.LOADING))
            await backends.changed(5)
        assert 2 == most
        assert Status.LOADING is hanging.status


async def test_backends_survive_a_restart() -> None:
    """A new server over the same store has the same backends with the same ids, titles, settings and switches."""
    store = MemoryStore()
    async with fleet([SYNTHETIC], store) as backends:
        await backends.add("synthetic", {"Colour": "#000000", "ApiKey": "k"}, "Night")
        await backends.add("synthetic")
        await backends.toggle(1, enabled=False)
        await backends.edit(0, {"slots": 3}, title="Black", new_id=7)
        before = [(s.id, s.title, s.settings, s.enabled) for s in backends]
    async with fleet([SYNTHETIC], store) as backends:
        assert [1, 7] == [s.id for s in backends]
        assert before == [(s.id, s.title, s.settings, s.enabled) for s in backends]
        assert ("k", 3) == (backends.get(7).settings.secret, backends.get(7).max_usages)
        assert Status.DISABLED is await settled(backends, backends.get(1))
        assert Status.RUNNING is await settled(backends, backends.get(7))
        assert 8 == (await backends.add("synthetic")).id


async def test_unknown_types_are_kept() -> None:
    """A stored backend whose package is gone shows as errored, can be renamed, and is whole again when the package is back."""
    store = MemoryStore()
    async with fleet([SYNTHETIC], store) as backends:
        await backends.add("synthetic", {"Colour": "#000000", "ApiKey": "k"})
    async with fleet([], store) as backends:
        slot = backends.get(0)
        assert Status.ERRORED is await settled(backends, slot)
        assert ("synthetic", None) == (slot.type.id, slot.settings)
        assert "the backend type 'synthetic' is not installed" == slot.reason
        await backends.edit(0, {"Colour": "lost?"}, title="Renamed")
        await backends.toggle(0, enabled=False)
    async with fleet([SYNTHETIC], store) as backends:
        slot = backends.get(0)
        assert ("#000000", "k", "Renamed", False) == (
            slot.settings.colour,
            slot.settings.secret,
            slot.title,
            slot.enabled,
        )


async def test_stored_settings_that_no_longer_fit_are_kept() -> None:
    """Stored values that the type refuses make the backend errored with the setting's name; an edit repairs it."""
    store = MemoryStore()
    async with fleet([SYNTHETIC], store) as backends:
        await backends.add("synthetic", {"slots": 2, "Colour": "#123456"})
        record = (await backends.records.load())[0]
        await backends.records.save(
            attrs.evolve(record, settings=record.settings | {"slots": "many", "newer": 1})
        )
    async with fleet([SYNTHETIC], store) as backends:
        slot = backends.get(0)
        assert Status.ERRORED is await settled(backends, slot)
        assert "'slots'" in slot.reason
        assert "many" == (await backends.records.load())[0].settings["slots"]
        await backends.edit(0, {"slots": 1})
        assert Status.RUNNING is await settled(backends, slot)
        stored = (await backends.records.load())[0].settings
        assert (1, 1) == (stored["slots"], stored["newer"])


async def test_edit_checks_before_it_touches_anything() -> None:
    """A wrong value, a taken id or an unknown backend is an error, and the backend neither changes nor stops."""
    async with fleet([SYNTHETIC]) as backends:
        slot, other = await added(backends), await added(backends)
        host = slot.host
        with pytest.raises(SettingsError, match="'slots' must be an integer"):
            await backends.edit(0, {"Colour": "#ffffff", "slots": "five"})
        with pytest.raises(BackendError, match="id 1 is taken"):
            await backends.edit(0, {}, new_id=other.id)
        with pytest.raises(BackendError, match="id 1 is taken"):
            await backends.edit(99, {}, new_id=other.id)
        with pytest.raises(UnknownBackendError):
            await backends.edit(99, {})
        assert (host, "#336699", 0, 0) == (slot.host, slot.settings.colour, slot.modcount, slot.id)


async def test_renumbering_raises_the_next_id() -> None:
    """A backend moved to 5 is found there only, its edits are counted, and the next one gets 6."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await added(backends)
        assert slot is await backends.edit(0, {}, title="Moved", new_id=5)
        assert (None, slot, 1) == (backends.get(0), backends.get(5), slot.modcount)
        assert 6 == (await backends.add("synthetic")).id


async def test_edit_waits_for_running_work() -> None:
    """Work that runs when its backend is edited ends normally; new work is refused meanwhile; then the new settings hold."""
    async with fleet([SYNTHETIC], drain_seconds=5.0) as backends:
        slot = await added(backends, slots=2)
        work = asyncio.create_task(job(slot, 0.5))
        await asyncio.sleep(0.1)
        edit = asyncio.create_task(backends.edit(0, {"slots": 4}))
        await asyncio.sleep(0.1)
        assert (Status.RUNNING, False) == (slot.status, slot.usable)
        assert os.getpid() != (await work).pid
        await edit
        await settled(backends, slot)
        assert 4 == slot.max_usages


async def test_a_drain_is_bounded() -> None:
    """Work that outlasts the limit is ended with its backend, and told so."""
    async with fleet([SYNTHETIC], drain_seconds=0.3) as backends:
        slot = await added(backends)
        work = asyncio.create_task(job(slot, 60))
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        assert await backends.delete(0)
        assert time.monotonic() - begun < 1.5
        with pytest.raises(WorkerLostError, match="was stopped"):
            await work


async def test_delete_takes_the_backend_from_the_list_at_once() -> None:
    """A deleted backend is off the list while its work still ends, and never comes back."""
    async with fleet([SYNTHETIC], drain_seconds=5.0) as backends:
        slot = await added(backends)
        work = asyncio.create_task(job(slot, 0.3))
        await asyncio.sleep(0.1)
        delete = asyncio.create_task(backends.delete(0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ([], False) == (list(backends), slot.usable)
        await work
        await delete
        assert (None, Status.DISABLED) == (slot.host, slot.status)


async def test_an_edit_that_races_a_delete_starts_nothing(own_children: Callable[[], list[int]]) -> None:
    """A backend deleted while an edit waits to restart it stays gone, without a process."""
    async with fleet([SYNTHETIC], drain_seconds=1.0) as backends:
        slot = await added(backends)
        work = asyncio.create_task(job(slot, 0.3))
        await asyncio.sleep(0.1)
        await asyncio.gather(backends.edit(0, {}), backends.delete(0), work)
        assert (None, Status.DISABLED) == (slot.host, slot.status)
        assert [] == own_children()


async def test_toggle() -> None:
    """Switching off stops a backend, switching on starts it, and no difference is no change."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await added(backends)
        assert not await backends.toggle(0, enabled=True)
        assert await backends.toggle(0, enabled=False)
        assert (Status.DISABLED, None) == (slot.status, slot.host)
        assert not await backends.toggle(0, enabled=False)
        assert await backends.toggle(0, enabled=True)
        assert Status.RUNNING is await settled(backends, slot)


async def test_an_errored_backend_switched_off_says_errored_and_stays_down(tmp_path: Path) -> None:
    """A backend that gave up and is switched off keeps its status, and is not started again by itself."""
    async with fleet([SYNTHETIC], restart_pause_seconds=0.3) as backends:
        slot = await added(backends, marker=str(tmp_path / "starts"))
        with pytest.raises(WorkerLostError):
            await slot.ask(WORK, Task("exit"))
        assert Status.ERRORED is slot.status
        await backends.toggle(0, enabled=False)
        await asyncio.sleep(0.6)
        assert Status.ERRORED is slot.status
        assert 1 == len((tmp_path / "starts").read_text().splitlines())


async def test_restart_counts_what_it_restarts() -> None:
    """Running and errored backends are restarted and counted, disabled ones are left alone."""
    async with fleet([SYNTHETIC], max_init_attempts=0) as backends:
        slots = [await added(backends), await added(backends, verb="raise"), await added(backends)]
        await backends.toggle(2, enabled=False)
        host = slots[0].host
        assert 2 == await backends.restart(list(backends))
        await settled(backends, slots[0])
        assert slots[0].host is not host
        assert Status.DISABLED is slots[2].status


async def test_memory_is_freed_on_request() -> None:
    """Freeing memory asks every given backend and counts those that did; a stopped one counts not."""
    async with fleet([SYNTHETIC]) as backends:
        slots = [await added(backends) for _ in range(3)]
        slots[0].current_model = "m"
        await backends.toggle(2, enabled=False)
        assert 2 == await backends.free_memory(slots, system_ram=True)
        assert "m" == slots[0].current_model


async def test_memory_is_freed_when_idle(caplog: pytest.LogCaptureFixture) -> None:
    """After so long without work device memory is freed once, later host memory once; work starts the count anew."""
    caplog.set_level("INFO")
    settings = BackendApiSettings(clear_vram_after_minutes=0.01, clear_system_ram_after_minutes=0.03)
    async with fleet([SYNTHETIC]) as backends:
        slot, claims = await added(backends), Claims()
        with claims.open("s", waiting_gens=1):
            cleaner = asyncio.create_task(free_when_idle(backends, claims, settings, look_seconds=0.05))
            await asyncio.sleep(0.8)
            assert [] == freed(caplog)
        await until(backends, lambda: 2 == len(freed(caplog)), 5)
        assert ["False", "True"] == freed(caplog)
        await asyncio.sleep(0.3)
        assert 2 == len(freed(caplog))
        await job(slot, 0.1)
        await until(backends, lambda: 4 == len(freed(caplog)), 5)
        cleaner.cancel()


def freed(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [m.partition("system_ram=")[2] for m in caplog.messages if "freed system_ram=" in m]


async def test_nonreal_backends_count_down_and_are_not_stored() -> None:
    """Temporary backends have ids from -1 down, pass their time of use to their parent, and are gone after a restart."""
    store = MemoryStore()
    async with fleet([SYNTHETIC], store) as backends:
        parent = await added(backends)
        children = [
            await backends.add_nonreal(SYNTHETIC, SYNTHETIC.settings(), title=f"[Remote] {n}", parent=parent)
            for n in range(2)
        ]
        assert [-2, -1, 0] == [slot.id for slot in backends]
        assert (False, parent) == (children[0].real, children[0].parent)
        await settled(backends, children[0])
        assert None is parent.seconds_since_used
        await job(children[0], 0)
        assert parent.seconds_since_used < 1
        await backends.edit(-1, {"slots": 2}, title="Two")
        assert (2, "Two") == (children[0].max_usages, children[0].title)
        assert await backends.toggle(-2, enabled=False)
        assert await backends.delete(-2)
    async with fleet([SYNTHETIC], store) as backends:
        assert [0] == [slot.id for slot in backends]


async def test_a_claim_occupies_a_place_and_wakes_waiters() -> None:
    """A claimed place is counted, and releasing it wakes whoever waits for a change."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await added(backends)
        with slot.claim():
            assert (1, True, False) == (slot.usages, slot.usable, slot.free)
            waiter = asyncio.create_task(backends.changed(5))
            await asyncio.sleep(0)
        assert (0, True) == (slot.usages, slot.free)
        assert await waiter
        assert not await backends.changed(0.01)


async def test_no_places_means_no_work() -> None:
    """A backend with no places runs, but is not usable."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await added(backends, slots=0)
        assert (Status.RUNNING, 0, False) == (slot.status, slot.max_usages, slot.usable)


async def test_work_for_a_stopped_backend_is_lost_work() -> None:
    """Calling a backend that does not run raises the error that sends the work elsewhere."""
    async with fleet([SYNTHETIC]) as backends:
        slot = await added(backends)
        await backends.toggle(0, enabled=False)
        with pytest.raises(WorkerLostError, match="not running"):
            await slot.ask(WORK, Task())


async def test_defaults_that_do_not_fit_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Of the proposed default backends those with an unknown type or a bad value are logged, the others added."""
    async with fleet([SYNTHETIC]) as backends:
        proposed = [
            NewBackend("nonsense"),
            NewBackend("synthetic", settings={"slots": "x"}),
            NewBackend("synthetic", "Good"),
        ]
        await add_defaults(backends, proposed)
        assert ["Good"] == [slot.title for slot in backends]
        assert 2 == len([m for m in caplog.messages if "cannot be added" in m])


async def test_closing_lets_running_work_end() -> None:
    """At the server's end running work finishes within the limit while new work finds nothing usable."""
    async with fleet([SYNTHETIC], drain_seconds=5.0) as backends:
        slot = await added(backends)
        work = asyncio.create_task(job(slot, 0.4))
        await asyncio.sleep(0.1)
        close = asyncio.create_task(backends.close())
        await asyncio.sleep(0.05)
        assert not slot.usable
        assert os.getpid() != (await work).pid
        await close
        assert Status.DISABLED is slot.status


async def test_a_change_is_carried_through_when_its_caller_goes_away() -> None:
    """An edit whose client hangs up while it waits still ends with the backend running under its new settings."""
    async with fleet([SYNTHETIC], drain_seconds=5.0) as backends:
        slot = await added(backends)
        work = asyncio.create_task(job(slot, 0.3))
        await asyncio.sleep(0.1)
        edit = asyncio.create_task(backends.finish(backends.edit(0, {"slots": 2})))
        await asyncio.sleep(0.05)
        edit.cancel()
        await work
        await until(backends, lambda: slot.usable and slot.max_usages == 2)
        assert os.getpid() != (await job(slot, 0)).pid


async def test_nothing_starts_after_the_end(own_children: Callable[[], list[int]]) -> None:
    """A backend added while the server stops, as a refresh of remote ones may do, gets no process."""
    async with fleet([SYNTHETIC]) as backends:
        await backends.close()
        slot = await backends.add_nonreal(SYNTHETIC, SYNTHETIC.settings())
        await asyncio.sleep(0.1)
        assert (None, []) == (slot.host, own_children())
