"""A pool, its workers and a storage in virtual time, for jobs of which some weigh much.

Claims are answered at once, and each job takes as long as its test says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from support.pool_world import EPOCH, World, job
from synk.claim import ClaimCursor, ClaimedJob
from synk.core import messages as m
from synk.core.backlog import order_of
from synk.core.claim_schedule import ClaimSchedule, Demand, DueClaim
from synk.core.weights import Budget
from synk.limit import KeyedClaim
from synk.weight import Weight

GIB = 1024**3
FETCH_S: Final = 0.2


def budget_of(
    weights: Mapping[str, Weight], *, cores: int, memory: int = 16, processes: int | None = None
) -> Budget:
    """A budget of so many cores and GiB."""
    return Budget(
        cores=cores,
        memory=memory * GIB,
        weights=weights,
        processes=processes or cores,
        cpus=range(cores),
    )


def heavy(cores: int | None = None, memory: int = 0) -> Weight:
    """The weight of so many cores and GiB."""
    return Weight(cores=cores, memory=memory * GIB)


class Machine(World):
    """Runs what it is given.

    Args:
        budget: what there is.
        lasts: kind -> seconds.
        keyed_s: how often jobs with keys are asked for, of which none waits here; None: never.
        limited: the queues of which limits are known.
    """

    def __init__(
        self,
        budget: Budget,
        lasts: Mapping[str, float],
        *,
        keyed_s: float | None = None,
        limited: Collection[str] = (),
        **options: Any,
    ) -> None:
        # No worker names limits of its own: its page is looked at when something is due only.
        super().__init__(budget=budget, limited=(), **options)
        self.lasts = lasts
        self.stored: list[ClaimedJob] = []
        self.inserted: dict[int, float] = {}
        self.began: dict[int, float] = {}
        self.over: Counter[str] = Counter()
        """How many of each kind have finished."""
        self.claims: Counter[str] = Counter()
        """How many claims were for each kind, and how many of its jobs were given back."""
        self.given_back: Counter[str] = Counter()
        fetch_s = dict.fromkeys(self.queues, FETCH_S)
        self.schedule = ClaimSchedule(fetch_s, limited=limited, keyed_s=keyed_s)
        self._streams: dict[str, tuple[float, float, dict[str, Any]]] = {}
        self._due: dict[int, float] = {}
        """Slot -> when its job is over."""
        self._next_id = 1
        self.all_ready()

    # -- the storage ------------------------------------------------------------------------------

    def insert(self, kind: str, count: int = 1, **fields: Any) -> list[int]:
        ids = list(range(self._next_id, self._next_id + count))
        self._next_id += count
        for job_id in ids:
            self.inserted[job_id] = self.now
            at = EPOCH + self.now
            self.stored.append(job(job_id, kind=kind, **{"scheduled_at": at, **fields}))
        self.schedule.announced(None)
        return ids

    def stream(self, kind: str, every_s: float, **fields: Any) -> None:
        """From now on a job of this kind is inserted again and again."""
        self._streams[kind] = (self.now, every_s, fields)

    def _insert_due(self) -> None:
        for kind, (at, every_s, fields) in list(self._streams.items()):
            due = int((self.now + 1e-9 - at) // every_s) + 1
            if due > 0:
                self.insert(kind, due, **fields)
                self._streams[kind] = (at + due * every_s, every_s, fields)

    def _claim_all(self) -> None:
        while True:
            pool = self.pool
            rooms = pool.rooms()
            demand = Demand(
                pool.demand(rooms), pool.urgent(), pool.claims, rooms, pool.weighted_demand()
            )
            self.schedule.set_demand(demand)
            claim = self.schedule.due_claim(self.now, 0.0)
            if claim is None:
                return
            self._claim(claim)

    def _claim(self, claim: DueClaim) -> None:
        self.claims.update(claim.kinds)
        plain = {each.kind for each in self.stored} - set(
            self.budget.weights if self.budget else ()
        )
        jobs: list[ClaimedJob] = []
        if claim.after_keys is None:
            jobs = self._taken(claim.queue, claim.limit, claim.kinds or plain, claim.after)
            self.schedule.claimed(claim, jobs, self.now)
        else:
            self.schedule.claimed_keyed(claim, KeyedClaim(), self.now)
        self._hand_over(jobs, self.schedule.none_of(claim, jobs))

    def _taken(
        self, queue: str, count: int, kinds: Any, after: Mapping[int, ClaimCursor] = {}
    ) -> list[ClaimedJob]:
        able = [
            each
            for each in self.stored
            if each.queue == queue
            and each.kind in kinds
            and (each.scheduled_at, each.id) > after.get(each.priority, (0.0, 0))
        ]
        found = sorted(able, key=order_of)[:count]
        gone = {each.id for each in found}
        self.stored = [each for each in self.stored if each.id not in gone]
        return found

    def _hand_over(self, jobs: list[ClaimedJob], none: Sequence[tuple[str, str]] = ()) -> None:
        for each in jobs:
            # Given back before, it is a new claim.
            self.settled.pop(each.id, None)
            self.ended.pop(each.id, None)
            self.claimed[each.id] = each
        self.handle(m.Claimed(jobs, none_of=none))

    def _settle(self, command: m.Settle) -> None:
        super()._settle(command)
        for ended in command.ended:
            if ended.job.id not in self.finished and ended.job.id not in self.began:
                self.given_back[ended.job.kind] += 1
                self.stored.append(ended.job)

    # -- time -------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Lets so many seconds pass."""
        end = self.now + seconds
        while True:
            self._insert_due()
            self._claim_all()
            self._begin_all()
            self.check()
            times = [*self._due.values(), *(at for at, _, _ in self._streams.values())]
            deadline = self.pool.next_deadline()
            times += [self.schedule.next_due(), *([] if deadline is None else [deadline])]
            later = [time for time in times if time > self.now + 1e-9]
            self.now = min([end, *later])
            if self.now >= end:
                return
            over = self._finish_due()
            if deadline is not None and deadline <= self.now:
                self.look()
            for number in over:
                self.tell(number)

    def _begin_all(self) -> None:
        for number, worker in list(self.workers.items()):
            if worker.ready and worker.running is None and worker.waiting and not worker.dying:
                job_id = self.begin(number)
                self.began[job_id] = self.now
                self._due[number] = self.now + self.lasts[self.claimed[job_id].kind]

    def _finish_due(self) -> list[int]:
        over = [number for number, at in self._due.items() if at <= self.now + 1e-9]
        for number in over:
            del self._due[number]
            self.over[self.claimed[self.finish(number, tell=False)].kind] += 1
        # They begin what waits there before anybody looks.
        self._begin_all()
        return over

    def die(self, number: int) -> None:
        """A worker is gone, and another one takes its place."""
        self._due.pop(number, None)
        self.exit(number)

    def waited(self, job_id: int) -> float:
        """Returns how long a job waited for its beginning."""
        return self.began[job_id] - self.inserted[job_id]
