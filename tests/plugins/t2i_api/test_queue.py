"""The queue and its decisions, on a clock of our own."""

import heapq
import itertools
import time

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkernel_t2i_api.jobs.job import Addon, Demand, Job
from swarmkernel_t2i_api.jobs.placement import Loads, Place, Planner, fitting, refusals
from swarmkernel_t2i_api.jobs.queue import FairQueue
from swarmkernel_t2i_api.params.request import ImageRequest

ALPHA, BETA = Demand("alpha"), Demand("beta")


def job(user="ann", demand=ALPHA, at=0.0, size=512, steps=20) -> Job:
    """One job of a user."""
    request = ImageRequest("1001", user, user, {"steps": steps}, size, size)
    return Job(request, demand, 0, 0, 0, at)


def queue_of(*jobs, limit=32) -> FairQueue:
    """A queue with these jobs."""
    queue = FairQueue(lambda _user: limit)
    for one in jobs:
        queue.add(one)
    return queue


def drain(queue):
    """The users of all jobs in the order in which one backend would run them."""
    order = []
    while head := next(queue.heads(), None):
        queue.take(head)
        queue.give_back(head)
        order.append(head.user_id)
    return order


def test_turns():
    """Users take turns, whoever came first and however many jobs they have."""
    queue = queue_of(*(job("ann") for _ in range(4)), *(job("ben") for _ in range(2)))
    assert ["ann", "ben", "ann", "ben", "ann", "ann"] == drain(queue)


def test_cost_counts():
    """A user whose pictures take four times the work gets a quarter as many."""
    queue = queue_of(*(job("big", size=1024) for _ in range(10)), *(job("small") for _ in range(40)))
    assert drain(queue)[:20].count("big") == 4


def test_no_credit():
    """Who was away does not get to catch up."""
    queue = queue_of(*(job("ann") for _ in range(20)))
    for _ in range(10):
        head = next(queue.heads())
        queue.take(head)
        queue.give_back(head)
    for _ in range(5):
        queue.add(job("ben"))
    assert 3 == drain(queue)[:6].count("ben")


def test_no_credit_for_the_known():
    """The same for a user whom the queue still remembers."""
    queue = queue_of(job("ann", size=1024), *(job("ben") for _ in range(40)))
    drain(queue)
    for _ in range(5):
        queue.add(job("ann"))
        queue.add(job("ben"))
    assert 3 == drain(queue)[:6].count("ann")


def test_refund():
    """A picture that came to nothing costs its user no turn."""
    lost, other = job("ann"), job("ben")
    queue = queue_of(lost, other)
    queue.take(lost)
    queue.give_back(lost, refund=True)
    queue.add(lost)
    assert lost is next(queue.heads())


def test_first_come():
    """Jobs of one user run in the order in which they came, and one that is put back comes first again."""
    jobs = [job() for _ in range(3)]
    queue = queue_of(*jobs)
    queue.take(jobs[0])
    assert jobs[1] is next(queue.heads())
    queue.give_back(jobs[0], refund=True)
    queue.add(jobs[0])
    assert jobs[0] is next(queue.heads())


def test_user_limit():
    """A user has at most so many jobs at once; the others are not held up by that."""
    jobs = [job("ann") for _ in range(3)]
    queue = queue_of(*jobs, job("ben"), limit=2)
    queue.take(jobs[0])
    queue.take(jobs[1])
    assert ["ben"] == [head.user_id for head in queue.heads()]
    queue.give_back(jobs[0])
    assert {"ann", "ben"} == {head.user_id for head in queue.heads()}
    assert (1, 1) == (queue.running("ann"), queue.waiting("ann"))


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([ALPHA, BETA]), st.sampled_from("tr")), max_size=40
    )
)
def test_books_balance(steps):
    """Whatever is added, taken, removed and given back, the queue knows how many wait, and ends empty."""
    queue, waiting, running = queue_of(), [], []
    for user, demand, what in steps:
        queue.add(added := job(user, demand))
        waiting.append(added)
        if what == "t":
            queue.take(head := next(queue.heads()))
            waiting.remove(head)
            running.append(head)
        elif len(waiting) > 1:
            queue.remove(waiting.pop(0))
    assert len(waiting) == len(queue)
    assert {one.demand for one in waiting} == set(queue.demands())
    assert sorted(one.sequence for one in waiting if one.demand == ALPHA) == [
        one.sequence for one in queue.of_demand(ALPHA)
    ]
    for one in waiting:
        queue.remove(one)
    for one in running:
        queue.give_back(one)
    assert (0, []) == (len(queue), queue.demands())


def test_thousands():
    """Ten thousand jobs of a thousand users are queued and taken in a few seconds."""
    queue = queue_of(*(job(f"user {number % 1000}") for number in range(10_000)))
    started = time.perf_counter()
    for _ in range(200):
        queue.take(next(queue.heads()))
    assert time.perf_counter() - started < 5
    assert 9_800 == len(queue)


def planner_of(*jobs, residency=10.0, load_delay=1.5) -> Planner:
    """A planner over a queue with these jobs."""
    return Planner(queue_of(*jobs), Loads(30.0), residency, load_delay)


def test_affinity():
    """A job goes to the backend that has its model, the emptiest of those."""
    places = [Place(0, "t", "beta"), Place(1, "t", "alpha", 1, 2), Place(2, "t", "alpha", 0, 2)]
    plan = planner_of(one := job()).plan(places, 0.0)
    assert [(one, 2)] == plan.runs
    assert [] == plan.loads


def test_late_binding():
    """No job is given to a backend that is full."""
    planner = planner_of(job(), job())
    assert 1 == len(planner.plan([Place(0, "t", "alpha", 1, 2)], 0.0).runs)
    assert 1 == len(planner.queue)


def test_one_load():
    """Fifty jobs for a model that nobody has make one backend load it: an empty one that was idle longest."""
    planner = planner_of(*(job() for _ in range(50)))
    places = [
        Place(0, "t", "beta", idle_for=5),
        Place(1, "t", "beta", idle_for=50),
        Place(2, "t", "beta", 1, 2),
    ]
    assert [1] == [place for _, place in planner.plan(places, 0.0).loads]
    assert [] == planner.plan(places, 100.0).loads


def test_second_load_waits():
    """While a backend that has the model is busy, another loads it only after the delay, and only an empty one."""
    planner = planner_of(job(at=100.0))
    places = [Place(0, "t", "alpha", 1, 1), Place(1, "t", "beta"), Place(2, "t", "beta", 1, 2, idle_for=99)]
    assert [] == planner.plan(places, 101.0).loads
    assert [1] == [place for _, place in planner.plan(places, 101.6).loads]


def test_no_eviction_without_need():
    """A busy backend is not made to run dry for a model that another backend has."""
    planner = planner_of(job())
    planner.plan([Place(0, "t", "alpha", 1, 1), Place(1, "t", "beta", 1, 2)], 100.0)
    assert {} == planner.loads.reserved


def test_drain_for_turn():
    """A busy backend takes no more work of its model once another user's turn with another model has come."""
    planner = planner_of(*(job("ann") for _ in range(9)), residency=10.0)
    place = Place(0, "t", "alpha", 0, 2)
    planner.loads.since[0] = 0.0
    assert 2 == len(planner.plan([place], 5.0).runs)
    planner.queue.add(waits := job("ben", BETA, at=5.0))
    planner.plan([place], 9.0)
    assert {} == planner.loads.reserved
    planner.plan([place], 10.0)
    assert {0: BETA} == planner.loads.reserved
    place.usages = 1
    assert [] == planner.plan([place], 11.0).runs
    place.usages = 0
    assert [(waits, 0)] == planner.plan([place], 12.0).loads
    assert {} == planner.loads.reserved


def test_no_drain_before_turn():
    """A busy backend goes on with its model while the turn is of somebody who wants that."""
    planner = planner_of(job("ann"), job("ben", BETA), residency=0.0)
    planner.plan([Place(0, "t", "alpha", 1, 1)], 10.0)
    assert {} == planner.loads.reserved
    planner.plan([Place(0, "t", "alpha", 0, 1)], 11.0)
    planner.queue.add(job("ann"))
    planner.plan([Place(0, "t", "alpha", 1, 1)], 12.0)
    assert {0: BETA} == planner.loads.reserved


def test_load_is_charged():
    """Who has a model loaded lets others go first afterwards."""
    planner = planner_of(job("ann"), job("ben"))
    assert ["ann"] == [one.user_id for one, _ in planner.plan([Place(0, "t", "beta")], 0.0).loads]
    planner.loads.active.clear()
    assert ["ben"] == [one.user_id for one, _ in planner.plan([Place(0, "t", "alpha")], 5.0).runs]


def test_reservation_ends():
    """A reservation for jobs that went away is forgotten."""
    planner = planner_of(gone := job("ben", BETA), residency=0.0)
    place = Place(0, "t", "alpha", 1, 2)
    planner.plan([place], 10.0)
    assert {0: BETA} == planner.loads.reserved
    planner.queue.remove(gone)
    planner.queue.add(job("ann"))
    assert 1 == len(planner.plan([place], 11.0).runs)


def test_failed_load():
    """A failed load is tried on other backends, and if all failed, only jobs of that model are refused."""
    planner = planner_of(job(), job("ben", BETA))
    places = [Place(0, "t", "beta"), Place(1, "t")]
    planner.loads.failed[1, "alpha"] = (100.0, "no memory")
    plan = planner.plan(places, 101.0)
    assert ([1], {}) == ([len(plan.runs)], plan.refusals)
    planner.loads.failed[0, "alpha"] = (100.0, "bad file")
    assert {ALPHA: ["bad file", "no memory"]} == planner.plan(
        [Place(0, "t", "beta"), places[1]], 101.0
    ).refusals
    assert 1 == len(planner.plan([Place(0, "t", "beta"), places[1]], 131.0).loads)


def test_load_elsewhere_first():
    """As long as one backend may still load the model, nothing is refused."""
    planner = planner_of(job())
    planner.loads.failed[0, "alpha"] = (0.0, "bad file")
    plan = planner.plan([Place(0, "t"), Place(1, "t", "beta", 1, 1)], 1.0)
    assert ({}, []) == (plan.refusals, plan.loads)


@pytest.mark.parametrize(
    ("demand", "reasons"),
    [
        (Demand("m", backend_type="other"), ["wrong backend type"]),
        (Demand("m", backend_id="7"), ["wrong backend id"]),
        (Demand("m", features=frozenset({"f", "g"})), ["missing feature g", "missing feature f, g"]),
        (
            Demand("m", "sdxl", features=frozenset({"f"})),
            ["cannot load models of class sdxl, such as m", "missing feature f"],
        ),
        (
            Demand("m", "sd1", features=frozenset({"f"}), forms=frozenset({"safetensors"})),
            ["needs the model as ONNX; `swarmkernel export-onnx` makes it", "missing feature f"],
        ),
    ],
)
def test_refusals(demand, reasons):
    """What no backend can do is refused at once with the distinct reasons."""
    places = [
        Place(
            0,
            "Torch",
            features=frozenset({"f"}),
            compat_classes=frozenset({"sd1"}),
            formats=frozenset({"onnx"}),
        ),
        Place(1, "Torch"),
        Place(2, "Torch"),
    ]
    planner = planner_of(job(demand=demand))
    assert {demand: reasons} == planner.plan(places, 0.0).refusals
    assert reasons == refusals(places, demand)


def test_coming_backends():
    """Nothing is refused while a backend is still starting."""
    planner = planner_of(job(demand=Demand("m", features=frozenset({"f"}))))
    assert {} == planner.plan([Place(0, "t"), Place(1, "t", coming=True)], 0.0).refusals
    assert [] != planner.plan([Place(0, "t")], 0.0).refusals


def test_chosen_backend():
    """A type is matched in any case, an id may be that of the parent."""
    places = [Place(3, "Torch"), Place(-1, "remote", parent_id=4)]
    assert [places[0]] == fitting(places, Demand(backend_type="torch"))
    assert [places[0]] == fitting(places, Demand(backend_id="3"))
    assert [places[1]] == fitting(places, Demand("m", backend_id="4"))


@pytest.mark.parametrize(
    ("forms", "fitting_ids"),
    [((), [0, 1, 2]), (("onnx",), [0, 2]), (("safetensors",), [1, 2]), (("onnx", "safetensors"), [0, 1, 2])],
)
def test_model_forms(forms, fitting_ids):
    """A model goes to the backends that load one of its forms; one whose forms are unknown may go to any."""
    places = [
        Place(0, "onnx", formats=frozenset({"onnx"})),
        Place(1, "torch", formats=frozenset({"safetensors"})),
        Place(2, "remote"),
    ]
    demand = Demand("m", forms=frozenset(forms))
    assert fitting_ids == [place.id for place in fitting(places, demand)]


@pytest.mark.parametrize(
    ("demand", "fitting_ids"),
    [
        (Demand("here.safetensors"), [0, 2]),
        (Demand("both.safetensors"), [0, 1, 2]),
        (Demand("there.safetensors", local=False), [1, 2]),
        (Demand("nowhere.safetensors", local=False), []),
    ],
)
def test_models_elsewhere(demand, fitting_ids):
    """A model goes to the backends that have it: those without models of their own have this server's."""
    places = [
        Place(0, "torch"),
        Place(1, "remote", models={"Stable-Diffusion": frozenset({"both", "there"})}),
        Place(2, "remote", models={"Stable-Diffusion": frozenset({"here", "both", "there"})}),
    ]
    assert fitting_ids == [place.id for place in fitting(places, demand)]


@pytest.mark.parametrize(
    ("demand", "fitting_ids"),
    [
        (Demand("m", addons=frozenset({Addon("LoRA", "here.safetensors")})), [0, 1]),
        (Demand("m", addons=frozenset({Addon("LoRA", "far", local=False)})), [1, 2]),
        (Demand("m", addons=frozenset({Addon("VAE", "far", local=False)})), []),
        (Demand("m", addons=frozenset({Addon("LoRA", "here"), Addon("LoRA", "far", local=False)})), [1]),
        (Demand("m", choices=frozenset({("sampler", "uni_pc")})), [2]),
        (Demand("m", choices=frozenset({("scheduler", "uni_pc")})), []),
    ],
)
def test_addons_and_choices(demand, fitting_ids):
    """A job goes to the backends that have its LoRAs and VAE and take what was chosen for it."""
    main = {"Stable-Diffusion": frozenset({"m"})}
    places = [
        Place(0, "torch"),
        Place(1, "remote", models=main | {"LoRA": frozenset({"here", "far"})}),
        Place(2, "remote", models=main | {"LoRA": frozenset({"far"})}, options={"sampler": ("uni_pc",)}),
    ]
    assert fitting_ids == [place.id for place in fitting(places, demand)]


def test_without_models():
    """A backend that loads no models serves jobs without one, those sent to it, and those whose model nobody asked for."""
    painter, loader = Place(0, "solid", loader=False), Place(1, "torch")
    assert [painter, loader] == fitting([painter, loader], Demand())
    assert [loader] == fitting([painter, loader], Demand("m"))
    assert [] == fitting([painter], Demand("m"))
    assert ["cannot load models"] == refusals([painter], Demand("m"))
    assert [painter] == fitting([painter], Demand("m", model_named=False))
    assert [loader] == fitting([painter, loader], Demand("m", model_named=False))
    assert [painter] == fitting([painter], Demand("m", backend_id="0"))
    plan = planner_of(one := job(demand=Demand("m", model_named=False))).plan([painter], 0.0)
    assert [(one, 0)] == plan.runs


@attrs.define
class World:
    """Backends that take a while for pictures and loads, on a clock of our own."""

    planner: Planner
    places: list[Place]
    run_seconds: float = 1.0
    load_seconds: float = 5.0
    now: float = 0.0
    started: list[tuple[float, Job]] = attrs.Factory(list)
    loads: list[tuple[float, str]] = attrs.Factory(list)
    _ends: list[tuple[float, int, str, object, int]] = attrs.Factory(list)
    _numbers: itertools.count = attrs.Factory(itertools.count)

    def run(self, until: float) -> None:
        """Let time pass."""
        while self.now < until:
            self._look()
            self.now = min(self._ends[0][0] if self._ends else until, self.now + 0.5)
            while self._ends and self._ends[0][0] <= self.now:
                _, _, kind, what, place = heapq.heappop(self._ends)
                (self._end_run if kind == "run" else self._end_load)(what, place)

    def _look(self) -> None:
        plan = self.planner.plan([attrs.evolve(place) for place in self.places], self.now)
        assert {} == plan.refusals
        for one, place in plan.runs:
            self.places[place].usages += 1
            assert self.places[place].usages <= self.places[place].max_usages
            assert self.places[place].model == one.demand.model
            self.started.append((self.now, one))
            self._later(self.run_seconds, "run", one, place)
        for one, place in plan.loads:
            assert 0 == self.places[place].usages
            self.places[place].model = None
            self.loads.append((self.now, one.demand.model))
            self._later(self.load_seconds, "load", one.demand.model, place)

    def _later(self, seconds: float, kind: str, what: object, place: int) -> None:
        heapq.heappush(self._ends, (self.now + seconds, next(self._numbers), kind, what, place))

    def _end_run(self, one: Job, place: int) -> None:
        self.places[place].usages -= 1
        self.planner.queue.give_back(one)

    def _end_load(self, model: str, place: int) -> None:
        self.places[place].model = model
        del self.planner.loads.active[place]
        self.planner.loads.since[place] = self.now

    def when(self, user: str) -> list[float]:
        """When the jobs of a user began."""
        return [when for when, one in self.started if one.user_id == user]


def world(*jobs, places=1, slots=1, **rules) -> World:
    """Backends with nothing loaded, and these jobs."""
    return World(planner_of(*jobs, **rules), [Place(n, "t", max_usages=slots) for n in range(places)])


def test_starvation_same_model():
    """A user who asks for one picture after another asked for a thousand waits for one job."""
    busy = world(*(job("ann") for _ in range(1000)))
    busy.run(50.0)
    busy.planner.queue.add(job("ben", at=50.0))
    busy.run(60.0)
    assert busy.when("ben")[0] - 50.0 <= 1.0


def test_starvation_other_model():
    """The same with another model: one job and one swap."""
    busy = world(*(job("ann") for _ in range(1000)), slots=4)
    busy.run(50.0)
    busy.planner.queue.add(job("ben", BETA, at=50.0))
    busy.run(70.0)
    assert busy.when("ben")[0] - 50.0 <= 1.0 + 1.0 + busy.load_seconds
    assert [one for when, one in busy.started if when > busy.when("ben")[0] + busy.load_seconds + 2.0]


def test_no_thrashing():
    """Two users who want two models for long share one backend in turns of at least the residency."""
    busy = world(*(job("ann") for _ in range(500)), *(job("ben", BETA) for _ in range(500)))
    busy.run(300.0)
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(busy.loads)]
    assert min(gaps) >= 10.0 + busy.load_seconds
    ann, ben = len(busy.when("ann")), len(busy.when("ben"))
    assert 0.8 < ann / ben < 1.25


def test_jain():
    """Eight users with different sizes and numbers of pictures get equal work: Jain's index is at least 0.95."""
    sizes = (256, 256, 512, 512, 512, 768, 768, 1024)
    jobs = [job(f"user {n}", size=size) for n, size in enumerate(sizes) for _ in range(2000)]
    busy = world(*jobs, places=2, slots=2)
    busy.run(600.0)
    work = [sum(one.cost for _, one in busy.started if one.user_id == f"user {n}") for n in range(8)]
    assert sum(work) ** 2 / (8 * sum(w * w for w in work)) >= 0.95


def test_more_backends():
    """A long queue for one model spreads over all backends."""
    busy = world(*(job() for _ in range(100)), places=3)
    busy.run(60.0)
    assert {"alpha"} == {place.model for place in busy.places}
    assert 3 == len(busy.loads)
