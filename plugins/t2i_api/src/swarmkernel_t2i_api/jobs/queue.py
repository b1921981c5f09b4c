"""Waiting jobs, fair between users.

Each user has an account of work that was done for them, in pixels x steps. Who has had least is served next
(start-time fair queueing); within a user it is first come, first served. A user who comes back after a pause
starts where the others are now, so that idling earns no credit.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from swarmkernel_t2i_api.jobs.job import Demand, Job

#: What it costs a user's account that a model was loaded for them: four pictures of 512 x 512 at 20 steps.
LOAD_COST: Final = 4 * 512 * 512 * 20


@attrs.define(eq=False)
class _Account:
    """One user: work done for them so far, and jobs in hand."""

    served: float
    running: int = 0
    waiting: dict[Demand, OrderedDict[int, Job]] = attrs.field(factory=dict)

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    def heads(self) -> list[Job]:
        """The next job of each demand, oldest first."""
        return sorted((next(iter(jobs.values())) for jobs in self.waiting.values()), key=_sequence)


def _sequence(job: Job) -> int:
    return job.sequence


@attrs.define(eq=False)
class FairQueue:
    """The queue. A plain object: it neither waits nor knows of backends. *limit* is a user's jobs at once."""

    limit: Callable[[str], int]
    _accounts: dict[str, _Account] = attrs.field(factory=dict, init=False)
    _demands: Counter[Demand] = attrs.field(factory=Counter, init=False)
    _served: float = attrs.field(default=0.0, init=False)
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)

    def __len__(self) -> int:
        """How many jobs wait."""
        return self._demands.total()

    def waiting(self, user_id: str) -> int:
        """How many jobs of a user wait."""
        account = self._accounts.get(user_id)
        return sum(map(len, account.waiting.values())) if account else 0

    def running(self, user_id: str) -> int:
        """How many jobs of a user are taken and not given back."""
        account = self._accounts.get(user_id)
        return account.running if account else 0

    def add(self, job: Job) -> None:
        """Put a job at the end of its user's line; one that was in the queue before goes back to its place."""
        again = bool(job.sequence)
        job.sequence = job.sequence or next(self._numbers)
        jobs = self._account(job.user_id).waiting.setdefault(job.demand, OrderedDict())
        jobs[job.sequence] = job
        if again:
            jobs.move_to_end(job.sequence, last=False)
        self._demands[job.demand] += 1

    def remove(self, job: Job) -> None:
        """Take a waiting job out for good."""
        account = self._accounts[job.user_id]
        del account.waiting[job.demand][job.sequence]
        if not account.waiting[job.demand]:
            del account.waiting[job.demand]
        self._demands -= Counter([job.demand])
        self._forget(job.user_id)

    def take(self, job: Job) -> None:
        """Take a waiting job out to run it, and write its cost to its user's account."""
        account = self._accounts[job.user_id]
        account.running += 1
        self._served = max(self._served, account.served)
        account.served += job.cost
        self.remove(job)

    def give_back(self, job: Job, *, refund: bool = False) -> None:
        """A job that was taken no longer runs. *refund* what it cost if it came to nothing."""
        account = self._accounts[job.user_id]
        account.running -= 1
        account.served -= job.cost if refund else 0
        self._forget(job.user_id)

    def charge(self, user_id: str, cost: float) -> None:
        """Write further work to a user's account."""
        self._account(user_id).served += cost

    def heads(self) -> Iterator[Job]:
        """The jobs that may run next, the one whose turn it is first: per user one of each demand."""
        ready = [
            (a.served, a.heads())
            for u, a in self._accounts.items()
            if a.waiting and a.running < self.limit(u)
        ]
        for _, jobs in sorted(ready, key=lambda entry: (entry[0], entry[1][0].sequence)):
            yield from jobs

    def demands(self) -> list[Demand]:
        """What the waiting jobs need, each once."""
        return list(self._demands)

    def of_demand(self, demand: Demand) -> list[Job]:
        """Every waiting job of a demand, oldest first."""
        accounts = [account for account in self._accounts.values() if demand in account.waiting]
        return sorted((job for a in accounts for job in a.waiting[demand].values()), key=_sequence)

    def of_model(self, model: str) -> list[Job]:
        """Every waiting job that wants a model, oldest first."""
        demands = [demand for demand in self._demands if demand.model == model]
        return sorted((job for demand in demands for job in self.of_demand(demand)), key=_sequence)

    def _account(self, user_id: str) -> _Account:
        account = self._accounts.get(user_id)
        if account is None:
            return self._accounts.setdefault(user_id, _Account(self._served))
        if account.idle:
            account.served = max(account.served, self._served)
        return account

    def _forget(self, user_id: str) -> None:
        account = self._accounts[user_id]
        if account.idle and account.served <= self._served:
            del self._accounts[user_id]
