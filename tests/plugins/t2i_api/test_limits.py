"""What roles allow, held by the real queue over a real backend, without a network between."""

import asyncio
import collections
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import attrs
import pytest
from PIL import Image

from swarmkernel import Limits, MemoryStore, Services
from swarmkernel_backend_api import BackendType, Claims, NoSettings, Status
from swarmkernel_backend_api.testing import fleet, until
from swarmkernel_models_api import Models
from swarmkernel_t2i_api import Events, Output, Progress
from swarmkernel_t2i_api.jobs.counters import Counters
from swarmkernel_t2i_api.jobs.jobs import Jobs
from swarmkernel_t2i_api.jobs.pictures import Pictures
from swarmkernel_t2i_api.limits import UserLimits
from swarmkernel_t2i_api.live.collect import Collector
from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.outputs.paths import MAX_DEPTH
from swarmkernel_t2i_api.params.registry import ParamRegistry
from swarmkernel_t2i_api.params.request import ImageRequest
from swarmkernel_t2i_api.settings import T2ISettings

running: collections.Counter[str] = collections.Counter()
most: collections.Counter[str] = collections.Counter()


class Painter:
    """Paints within the test's own process, and counts the pictures in the making by prompt."""

    def __init__(self, settings):
        pass

    async def start(self):
        pass

    async def stop(self):
        pass

    async def generate(self, job):
        running[job.prompt] += 1
        most[job.prompt] = max(most[job.prompt], running[job.prompt])
        try:
            for step in range(job.steps):
                await asyncio.sleep(0.005)
                yield Progress(step + 1, job.steps)
            yield Output(Image.new("RGB", (8, 8)))
        finally:
            running[job.prompt] -= 1


PAINTER = BackendType(
    "painter", "Painter", make=Painter, settings=NoSettings, in_process=True, slots=lambda _: 64
)


@attrs.define
class Roles:
    """Limits that a test sets."""

    limits: dict[str, Mapping[str, object]] = attrs.field(factory=dict)

    def of(self, user_id):
        return self.limits.get(user_id, {"max_t2i_simultaneous": 32})


@attrs.frozen
class Shop:
    """A running queue with all that belongs to it."""

    jobs: Jobs
    events: Events
    claims: Claims
    roles: Roles

    def order(self, user: str, session: str, images: int = 8, steps: int = 4) -> asyncio.Task:
        """Submit a request, whose outcome the task has."""
        values = {"prompt": user, "images": images, "steps": steps, "donotsave": True, "seed": 1}
        return asyncio.create_task(self._made(ImageRequest("1", user, session, values, 64, 64)))

    async def _made(self, request):
        collector = Collector()
        with self.events.listen(collector, request):
            self.jobs.submit(request)
            await collector.done.wait()
        return collector.outcome()


@asynccontextmanager
async def shop(tmp_path, roles: Roles | None, **settings: int) -> AsyncIterator[Shop]:
    """A queue over one backend with more places than anybody may use."""
    services = Services()
    if roles is not None:
        services.add(Limits, roles)
    limits = UserLimits(services, T2ISettings(**settings))
    most.clear()
    running.clear()
    async with fleet([PAINTER]) as backends:
        slot = await backends.add("painter")
        await until(backends, lambda: slot.status is Status.RUNNING)
        events, claims = Events(), Claims()
        pictures = Pictures(ParamRegistry({}), Outputs(tmp_path), limits)
        jobs = Jobs(backends, Models((), MemoryStore()), events, pictures, limits)
        work = asyncio.create_task(jobs.run())
        with events.listen(Counters(claims)):
            yield Shop(jobs, events, claims, roles or Roles())
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await jobs.close()


@pytest.mark.parametrize(
    ("allowed", "setting", "expected"), [(3, 32, 3), (32, 2, 2), (0, 32, 1), (-5, 32, 1), (64, 5, 5)]
)
async def test_simultaneous(allowed, setting, expected, tmp_path):
    """A user has at most what their roles and the operator allow, and one at least, over all sessions and requests."""
    roles = Roles({"ann": {"max_t2i_simultaneous": allowed}})
    async with shop(tmp_path, roles, max_simultaneous=setting) as here:
        orders = [here.order("ann", session) for session in ("one", "one", "two")]
        await asyncio.gather(*orders)
    assert {"ann": expected} == most


async def test_users_have_limits_of_their_own(tmp_path):
    """One user's limit does not bind another; without roles the operator's setting is the only one."""
    roles = Roles({"ann": {"max_t2i_simultaneous": 2}})
    async with shop(tmp_path, roles, max_simultaneous=6) as here:
        await asyncio.gather(here.order("ann", "one"), here.order("ben", "two"), here.order("ann", "three"))
    assert {"ann": 2, "ben": 6} == most
    async with shop(tmp_path, None, max_simultaneous=7) as here:
        await here.order("ann", "one", 20)
    assert {"ann": 7} == most


async def test_limits_change(tmp_path):
    """A limit that is raised or lowered counts for what waits; what runs may end."""
    roles = Roles({"ann": {"max_t2i_simultaneous": 6}})
    async with shop(tmp_path, roles) as here:
        order = here.order("ann", "one", 30)
        while here.jobs.queue.waiting("ann") > 20 or not running["ann"]:
            await asyncio.sleep(0.001)
        assert 6 == most["ann"]
        roles.limits = {"ann": {"max_t2i_simultaneous": 1}}
        while running["ann"] > 1:
            await asyncio.sleep(0.001)
        most.clear()
        await order
    assert {"ann": 1} == most


async def test_interrupting_a_user_leaves_nothing(tmp_path):
    """All of a user's pictures end as interrupted, waiting and running ones, and nothing of them is kept; others go on."""
    roles = Roles({"ann": {"max_t2i_simultaneous": 2}})
    async with shop(tmp_path, roles) as here:
        orders = [here.order("ann", session, 40, 100) for session in ("one", "two", "one")]
        other = here.order("ben", "three", 3)
        while running["ann"] < 2:
            await asyncio.sleep(0.001)
        here.jobs.interrupt(None, "ann")
        outcomes = await asyncio.gather(*orders, return_exceptions=True)
        assert 3 == len(await other)
        told = ["interrupted" if isinstance(o, Exception) else o for o in outcomes]
        assert "interrupted" in told
        assert all(found in ("interrupted", []) for found in told)
        for session in ("one", "two", "three"):
            assert {0} == set(here.claims.counts(session).values())
        assert 0 == len(here.jobs.queue) == here.jobs.queue.running("ann")
        assert ({}, {}, {}) == (here.jobs._open, here.events._by_request, here.jobs._told)
        assert {"ann": 0, "ben": 0} == running


def test_limits_of_paths():
    """How deep and how odd paths may be is the role's to say; without accounts they are deep and clean."""
    services = Services()
    limits = UserLimits(services, T2ISettings())
    assert (MAX_DEPTH, False) == (limits.path_folders("ann"), limits.unsafe_paths("ann"))
    services.add(Limits, Roles({"ann": {"max_outpath_depth": 2, "allow_unsafe_outpaths": True}}))
    assert (2, True) == (limits.path_folders("ann"), limits.unsafe_paths("ann"))
