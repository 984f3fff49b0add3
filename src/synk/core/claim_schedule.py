"""What is to be claimed, and when: the pool's demand made into claims, one after the other.

A queue that is wanted of is asked by its interval, and at once where it had as many jobs as were
wanted or where new ones are announced. Queues take turns. What is more urgent than the jobs at hand
comes first, since a claim of hundreds takes its time.

There is one claim at a time: `due_claim` begins it, `claimed` or `failed` ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from synk.config import HELD_BYTES
from synk.core.claim_cursors import END
from synk.core.held_bytes import CLAIMS_A_HOLD, weight_of
from synk.core.keyed_schedule import KeyedTimes
from synk.core.queue_times import QueueTimes, WeightedTimes
from synk.row import Priority

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from synk.claim import ClaimCursor, ClaimedJob
    from synk.core.dispatch import Urgent, WeightedDemand
    from synk.limit import KeyedClaim, KeyedCursor

CLAIM_JOBS: Final = 1_000
"""Jobs in one claim at most. Each claim costs a wait for the disk; beyond this the gain is small,
and what is urgent waits for longer behind a claim that is under way."""

IDLE_FETCHES: Final = 9
"""Intervals that an empty queue is left in peace, at the most, while new jobs are announced."""

URGENT_PAUSE_S: Final = 0.02
"""Between two looks whether anything more urgent has come than what is at hand: jobs may be
announced hundreds of times a second."""

_JITTER: Final = 0.2
"""Of an interval, so that a fleet does not ask in one instant."""

_FORM: Final = 8
"""The storage counts bytes in its own form, in which some values are so many times as large as
here. A claim that may have been cut for its bytes, by that, is followed by another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueClaim:
    """A claim that is to be made at once."""

    seq: int
    """Its number, of those of this supervisor, from 1."""
    queue: str
    limit: int
    after: Mapping[int, ClaimCursor]
    bytes_max: int
    at: float
    """When it began."""
    is_urgent: bool = False
    """Whether it is for what overtakes the jobs at hand: it does not read on."""
    kinds: tuple[str, ...] = ()
    """Those with a weight that it is for; empty: it is for those without."""
    after_keys: KeyedCursor | None = None
    """Of a claim of jobs that have keys: where it goes on among these; None: it is of others."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pool wants."""

    wanted: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many jobs of each queue."""
    urgent: Mapping[str, Urgent] = field(default_factory=dict[str, "Urgent"])
    """What is wanted beyond that."""
    claims_seen: int = 0
    """How many claims it has taken in."""
    rooms: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)
    """How many bytes of jobs of each queue it may be given; without one: any."""
    weighted: Mapping[str, WeightedDemand] = field(default_factory=dict[str, "WeightedDemand"])
    """What it wants of the jobs that weigh something, by queue."""
    freed: int = 0
    """How often a permit for a key was left without work."""
    permits_at: float | None = field(default=None, compare=False)
    """When there are permits to give back; None: never, as it is."""


class ClaimSchedule:
    """Says which claim is due, for one supervisor. Times are seconds of the monotonic clock.

    Args:
        fetch_s: the queues, and how often each is asked.
        held_bytes: what the jobs that wait may weigh together.
        limited: the queues of which limits are known, so that jobs of theirs may have keys.
        keyed_s: how often jobs with keys are asked for in others, where some may have been stored
            by whoever knows more; None: never, since the storage knows no keys.
    """

    def __init__(
        self,
        fetch_s: Mapping[str, float],
        *,
        held_bytes: int = HELD_BYTES,
        limited: Container[str] = (),
        keyed_s: float | None = None,
    ) -> None:
        self._keyed: dict[str, KeyedTimes] = {}
        self._keyed_weighted: dict[str, KeyedTimes] = {}
        for name, seconds in fetch_s.items():
            if keyed_s is not None:
                is_limited = name in limited
                interval_s = seconds if is_limited else keyed_s
                self._keyed[name] = KeyedTimes(interval_s, is_limited=is_limited)
                self._keyed_weighted[name] = KeyedTimes(interval_s, is_limited=is_limited)
        self._freed = 0
        self._queues = {name: QueueTimes(seconds) for name, seconds in fetch_s.items()}
        self._claim_bytes = held_bytes // CLAIMS_A_HOLD
        self._wanted: Mapping[str, int] = {}
        self._urgent: Mapping[str, Urgent] = {}
        self._rooms: Mapping[str, int] = {}
        self._weighted: Mapping[str, WeightedDemand] = {}
        self._of_weighted = {name: WeightedTimes(seconds) for name, seconds in fetch_s.items()}
        """As for the queues themselves: claims of jobs with a weight are claims of their own."""
        self.claims = 0
        """How many were begun."""
        self.are_announced = False
        """Whether new jobs are announced: an empty queue is asked less often then."""

    # -- what it is told --------------------------------------------------------------------------

    def set_demand(self, demand: Demand) -> None:
        """Takes the pool's demand, unless there are claims that the pool had not seen yet."""
        if demand.claims_seen == self.claims:
            self._wanted, self._urgent, self._rooms = demand.wanted, demand.urgent, demand.rooms
            self._weighted = demand.weighted
            if demand.freed != self._freed:
                self._freed = demand.freed
                self.look_for_keys()

    def look_for_keys(self) -> None:
        """A permit, or a limit, may let jobs begin that have keys."""
        for keyed in (*self._keyed.values(), *self._keyed_weighted.values()):
            if keyed.is_limited:
                keyed.look_now()

    def announced(self, queues: Container[str] | None) -> None:
        """There may be new jobs in *queues* (None: in any): they do not wait for their interval."""
        for name, keyed in (*self._keyed.items(), *self._keyed_weighted.items()):
            if queues is None or name in queues:
                keyed.announced()
        for name, queue in (*self._queues.items(), *self._of_weighted.items()):
            if queues is None or name in queues:
                queue.announced()

    # -- what it answers --------------------------------------------------------------------------

    def next_due(self) -> float:
        """Returns when the next claim is due, if nothing else comes before."""
        times = [line.due_at for line, _ in self._lines()]
        times += [self._queues[name].urgent_at for name in self._urgent]
        times += [self._weighted_due_at(name) for name in self._weighted]
        return min(times, default=inf)

    def due_claim(self, now: float, jitter: float) -> DueClaim | None:
        """Begins the claim that is due, if one is.

        Args:
            now: the time.
            jitter: by chance, from 0 to 1.
        """
        for name in self._urgent:
            if self._queues[name].urgent_at <= now:
                return self._begin_urgent(name, now)
        due = [(line.turn, name, line) for line, name in self._lines() if line.due_at <= now]
        weighted = [
            (self._of_weighted[name].turn, name)
            for name in self._weighted
            if self._weighted_due_at(name) <= now
        ]
        # In turns: a queue that always has jobs must not keep others from being asked.
        turn, name, line = min(due, key=itemgetter(0), default=(inf, "", None))
        if weighted and min(weighted)[0] < turn:
            return self._begin_weighted(min(weighted)[1], now, jitter)
        if isinstance(line, KeyedTimes):
            return self._begin_keyed(line, name, now)
        return None if line is None else self._begin(name, now, jitter)

    def _weighted_due_at(self, name: str) -> float:
        return self._of_weighted[name].due_for(self._weighted[name].kinds)

    def _lines(self) -> list[tuple[QueueTimes | KeyedTimes, str]]:
        """Returns what is wanted of: of each queue its plain jobs, and those that have keys."""
        lines: list[tuple[QueueTimes | KeyedTimes, str]]
        lines = [(self._queues[name], name) for name in self._wanted]
        if self._keyed:
            lines += [(self._keyed[name], name) for name in self._wanted]
            lines += [(self._keyed_weighted[name], name) for name in self._weighted]
        return lines

    def _begin_keyed(self, keyed: KeyedTimes, name: str, now: float) -> DueClaim:
        keyed.began(self.claims, now)
        self.claims += 1
        kinds: tuple[str, ...] = ()
        if keyed is self._keyed.get(name):
            limit = self._take_wanted(name)
        else:
            limit, kinds = self._weighted[name].count, self._weighted[name].kinds
            self._weighted = {}
        return DueClaim(
            seq=self.claims,
            queue=name,
            limit=limit,
            after={},
            bytes_max=max(1, min(self._claim_bytes, self._rooms.get(name, self._claim_bytes))),
            at=now,
            kinds=kinds,
            after_keys=keyed.after,
        )

    def _take_wanted(self, name: str) -> int:
        """Takes what is wanted of a queue, for one claim, and returns how many that is."""
        wanted = self._wanted[name]
        limit = min(CLAIM_JOBS, wanted)
        # The pool's demand holds again once it has seen what this claim brings; until then there is
        # only the rest of a demand for more than one claim.
        rest = wanted - limit
        self._wanted = {name: rest} if rest >= CLAIM_JOBS // 2 else {}
        return limit

    def _begin(self, name: str, now: float, jitter: float) -> DueClaim:
        queue = self._queues[name]
        queue.turn = self.claims
        self.claims += 1
        limit = self._take_wanted(name)
        self._fetch_later(queue, now, jitter)
        self._look_for_urgent_later(queue, now)
        bytes_max = max(1, min(self._claim_bytes, self._rooms.get(name, self._claim_bytes)))
        return DueClaim(
            seq=self.claims,
            queue=name,
            limit=min(limit, queue.count_within(bytes_max)),
            after=queue.cursors.at(now),
            bytes_max=bytes_max,
            at=now,
        )

    def _fetch_later(self, queue: QueueTimes, now: float, jitter: float) -> None:
        fetches = 1 + (min(queue.empty, IDLE_FETCHES) if self.are_announced else 0)
        queue.due_at = now + queue.fetch_s * fetches * (1 - _JITTER * jitter)

    def _begin_weighted(self, name: str, now: float, jitter: float) -> DueClaim:
        queue, wanted = self._of_weighted[name], self._weighted[name]
        queue.turn = self.claims
        self.claims += 1
        # Queues share one budget: what is left of it, the pool says when it has seen this claim.
        self._weighted = {}
        self._fetch_later(queue, now, jitter)
        queue.begin(wanted.kinds)
        return DueClaim(
            seq=self.claims,
            queue=name,
            limit=wanted.count,
            after=queue.cursors.at(now),
            bytes_max=self._claim_bytes,
            at=now,
            kinds=wanted.kinds,
        )

    def _begin_urgent(self, name: str, now: float) -> DueClaim:
        self.claims += 1
        wanted = self._urgent[name]
        self._urgent = {other: urgent for other, urgent in self._urgent.items() if other != name}
        queue = self._queues[name]
        queue.urgent_rests_until = now + URGENT_PAUSE_S
        self._look_for_urgent_later(queue, now)
        passed_over = {int(each): END for each in Priority if each >= wanted.above}
        return DueClaim(
            seq=self.claims,
            queue=name,
            limit=wanted.count,
            after={**queue.cursors.at(now), **passed_over},
            bytes_max=self._claim_bytes,
            at=now,
            is_urgent=True,
        )

    def _look_for_urgent_later(self, queue: QueueTimes, now: float) -> None:
        queue.urgent_at = now + (inf if self.are_announced else queue.fetch_s)

    # -- how claims end ---------------------------------------------------------------------------

    def claimed(self, claim: DueClaim, jobs: Sequence[ClaimedJob], now: float) -> None:
        """Takes in what *claim* brought, the most urgent first."""
        queue = self._times_of(claim)
        if claim.is_urgent:
            if len(jobs) >= claim.limit:
                queue.urgent_at = queue.urgent_rests_until
            return
        limit = claim.limit
        weight = queue.weigh(jobs)
        if weight * _FORM >= claim.bytes_max:
            limit = min(limit, len(jobs))
            if not claim.kinds:
                self._take_room(claim.queue, weight)
        again_at = queue.cursors.claimed(jobs, limit=limit, began=claim.at, now=now)
        if isinstance(queue, WeightedTimes):
            queue.found(all_that_wait=len(jobs) < limit, began=claim.at, now=now)
        if again_at is not None:
            queue.due_at = min(queue.due_at, again_at)
        queue.empty = 0 if jobs else queue.empty + 1
        if len(jobs) >= limit:
            queue.due_at = 0.0

    def claimed_keyed(self, claim: DueClaim, found: KeyedClaim, now: float) -> None:
        """Takes in what a claim of jobs that have keys brought."""
        patience = IDLE_FETCHES if self.are_announced else 0
        self._keyed_times_of(claim).claimed(
            found, claim.limit, began=claim.at, now=now, patience=patience
        )
        self._take_room(claim.queue, sum([weight_of(job) for job in found.jobs]))

    def _take_room(self, name: str, weight: int) -> None:
        """Has the rest of a demand wait where the claim so far has taken up the room."""
        if name in self._rooms:
            room = self._rooms[name] - weight
            self._rooms = {**self._rooms, name: room}
            if room <= 0:
                self._wanted = {}

    def _keyed_times_of(self, claim: DueClaim) -> KeyedTimes:
        return (self._keyed_weighted if claim.kinds else self._keyed)[claim.queue]

    def _times_of(self, claim: DueClaim) -> QueueTimes:
        return (self._of_weighted if claim.kinds else self._queues)[claim.queue]

    def failed(self, claim: DueClaim) -> None:
        """*claim* brought no answer; it is due again."""
        queue = self._times_of(claim)
        if claim.after_keys is not None:
            self._keyed_times_of(claim).look_now()
        elif claim.is_urgent:
            queue.urgent_at = queue.urgent_rests_until
        else:
            queue.due_at = 0.0

    def none_of(self, claim: DueClaim, jobs: Sequence[ClaimedJob]) -> Sequence[tuple[str, str]]:
        """Returns the queue, and the kinds with a weight, of which no more wait after *claim*.

        Claims of jobs with keys see no others, and the reverse: where jobs of a queue may have
        keys, a kind has none once both have found none. Elsewhere the others tell alone.
        """
        if claim.after or len(jobs) >= claim.limit:
            return ()
        keyed = self._keyed.get(claim.queue)
        is_keyed = claim.after_keys is not None
        kinds: Sequence[str] = () if is_keyed else claim.kinds
        if keyed is not None and keyed.is_limited:
            times = self._of_weighted[claim.queue]
            kinds = times.found_none(claim.kinds, claim.at, is_keyed=is_keyed)
        return [(claim.queue, kind) for kind in kinds]
