"""M11: queues with the same settings share the workers by time, whatever their jobs take."""

from __future__ import annotations

from collections import deque

import pytest

from support.pool_world import World, job
from synk.claim import ClaimedJob
from synk.core.limits import QueueLimits

CLAIM_S = 0.01
"""What a claim takes."""

CLAIM_JOBS = 1_000
TELL_S = 0.001
"""How often the pool hears of a worker that still has something to do."""


class Shop(World):
    """Two workers, and a table of jobs, from which is claimed what the pool demands, in turns."""

    def __init__(self, seconds: dict[str, float], queues: tuple[str, ...] = ("busy", "quiet")):
        super().__init__(
            queues={name: QueueLimits(max_workers=100, timeout_s=1000.0) for name in queues}
        )
        self.all_ready()
        self._seconds = seconds
        self._rows = {name: deque[ClaimedJob]() for name in queues}
        self._asked: tuple[str, int] | None = None
        """The claim that is under way."""
        self._asked_at = dict.fromkeys(queues, 0.0)
        self._answer_at = float("inf")
        self._last_id = 0
        self._put_at: dict[int, float] = {}
        self._ends = dict.fromkeys(self.workers, float("inf"))
        self._told_at = dict.fromkeys(self.workers, 0.0)
        self.waits: dict[str, list[float]] = {name: [] for name in queues}
        """From the insert of each job to its beginning."""
        self.took_s = dict.fromkeys(queues, 0.0)
        """Of the workers' time, by queue."""

    def put(self, queue: str, kind: str, count: int = 1) -> None:
        for _ in range(count):
            self._last_id += 1
            self._put_at[self._last_id] = self.now
            self._rows[queue].append(job(self._last_id, kind=kind, queue=queue))

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self._begin()
            self._ask()
            at, slot = min((at, slot) for slot, at in self._ends.items())
            if min(at, self._answer_at) > end:
                self.now = end
                return
            if at <= self._answer_at:
                self.now = at
                self._finish(slot)
            else:
                self.now = self._answer_at
                self._answer()

    def _begin(self) -> None:
        for slot, worker in self.workers.items():
            if worker.waiting and worker.running is None:
                claimed = self.claimed[self.begin(slot)]
                seconds = self._seconds[claimed.kind]
                self._ends[slot] = self.now + seconds
                self.took_s[claimed.queue] += seconds
                self.waits[claimed.queue].append(self.now - self._put_at[claimed.id])

    def _finish(self, slot: int) -> None:
        self._ends[slot] = float("inf")
        self.finish(slot, tell=False)
        if not self.workers[slot].waiting or self.now - self._told_at[slot] >= TELL_S:
            self._told_at[slot] = self.now
            self.tell(slot)

    def _ask(self) -> None:
        if self._asked is not None:
            return
        demand = self.pool.demand(self.pool.rooms())
        wanted = [name for name, rows in self._rows.items() if rows and demand.get(name, 0) > 0]
        if wanted:
            queue = min(wanted, key=self._asked_at.__getitem__)
            self._asked_at[queue] = self.now
            self._asked = queue, min(demand[queue], CLAIM_JOBS)
            self._answer_at = self.now + CLAIM_S

    def _answer(self) -> None:
        assert self._asked is not None
        queue, count = self._asked
        self._asked, self._answer_at = None, float("inf")
        rows = self._rows[queue]
        self.claim(*(rows.popleft() for _ in range(min(len(rows), count))))


@pytest.mark.parametrize("kind", ["short", "never seen", "long"])
@pytest.mark.parametrize("short_s", [0.0005, 0.003, 0.02, 0.15])
def test_m11_a_job_now_and_then_does_not_wait_for_the_end_of_a_busy_queue(
    short_s: float, kind: str
) -> None:
    shop = Shop({"short": short_s, "never seen": 0.001, "long": 2.0})
    shop.put("busy", "short", int(5 / short_s))
    shop.pass_time(0.5)

    for _ in range(1 if kind == "long" else 4):
        shop.put("quiet", kind)
        shop.pass_time(0.4)

    assert len(shop.waits["quiet"]) == (1 if kind == "long" else 4)
    assert max(shop.waits["quiet"]) < 0.1 + 2 * short_s
    assert len(shop.waits["busy"]) < int(5 / short_s)
    shop.check()


@pytest.mark.parametrize("others_s", [0.002, 0.02, 0.1])
def test_m11_a_queue_of_long_jobs_and_one_of_short_ones_get_as_much_time(others_s: float) -> None:
    shop = Shop({"short": others_s, "long": 0.5})
    shop.put("quiet", "long", 100)
    shop.put("busy", "short", int(20 / others_s))

    shop.pass_time(10.0)

    assert 0.4 < shop.took_s["busy"] / sum(shop.took_s.values()) < 0.6
    shop.check()


def test_m11_what_was_not_used_while_a_queue_was_empty_is_not_made_up_for() -> None:
    shop = Shop({"short": 0.02})
    shop.put("busy", "short", 1_000)
    shop.pass_time(5.0)

    shop.put("quiet", "short", 1_000)
    before = shop.took_s["busy"]
    shop.pass_time(2.0)

    assert 0.4 < (shop.took_s["busy"] - before) / 4.0 < 0.6


def test_m11_a_queue_alone_gets_all_the_time() -> None:
    shop = Shop({"short": 0.02})
    shop.put("busy", "short", 500)

    shop.pass_time(4.0)

    assert shop.took_s["busy"] > 7.5
